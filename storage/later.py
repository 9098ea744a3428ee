"""Later: small things that nobody waits for, done one after the other by a thread of their own, or dropped."""

from collections.abc import Callable
from queue import Full, Queue
from threading import Lock, Thread

import structlog

from memlane.errors import MemlaneError

log = structlog.get_logger(__name__)

_WAITING = 1000
"""So many may wait; more are dropped: whoever hands them over must be able to do without."""


class Later:
    """Does what it is given a moment later; make it after the fork. The thread begins with the first."""

    def __init__(self) -> None:
        self._waiting: Queue[Callable[[], object] | None] = Queue(_WAITING)
        self._thread: Thread | None = None
        self._lock = Lock()
        self._closed = False

    def __call__(self, work: Callable[[], object]) -> None:
        """Have something done; returns at once and never fails."""
        if self._closed:
            return
        try:
            self._waiting.put_nowait(work)
        except Full:
            return
        if self._thread is None:
            self._begin()

    def close(self) -> None:
        """Begin nothing more; what waits is dropped."""
        self._closed = True
        try:
            self._waiting.put_nowait(None)
        except Full:
            return

    def _begin(self) -> None:
        with self._lock:
            if self._thread is None:
                self._thread = Thread(target=self._run, name="later", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while (work := self._waiting.get()) is not None and not self._closed:
            try:
                work()
            except MemlaneError as error:
                log.info("later.dropped", why=str(error))
            except Exception:  # this thread has to live as long as its process
                log.exception("later.failed")
