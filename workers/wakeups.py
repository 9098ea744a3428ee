"""Wake-ups: Celery messages that carry a shard's number. Sent off the caller's path, and never missed.

A wake-up that is lost costs seconds, since the sweep looks for shards with work and nobody on it. So
a broker that is down slows nobody: what could not be sent is dropped with a line in the log.
"""

from threading import Condition, Thread

import structlog
from celery import Celery

from memlane.storage.failures import reason_of
from memlane.storage.jobs import Kind
from memlane.tasks.hooks import TRACEPARENT
from memlane.workers.marks import Marks

log = structlog.get_logger(__name__)

DRAIN_OF = {
    Kind.REMEMBER: "drain.remember",
    Kind.EMBED: "drain.embed",
    Kind.TEXT_EMBED: "drain.embed",
    Kind.FORGET: "drain.forget",
    Kind.OPTIMIZE: "drain.optimize",
}
"""The task that finishes each kind of job."""


class Wakeups:
    """Sends wake-ups from a thread of its own; make it after the fork.

    Call it with a kind and a shard: it returns at once. The same shard asked for many times in a
    moment is sent once. The trace of the operation that asked first goes along, if there is one.
    """

    def __init__(self, app: Celery, marks: Marks) -> None:
        self._app = app
        self._marks = marks
        self._wanted: dict[tuple[Kind, int], str | None] = {}
        self._more = Condition()
        self._thread: Thread | None = None

    def __call__(self, kind: Kind, shard: int) -> None:
        """Wake a drain for a shard, unless one was woken a moment ago."""
        with self._more:
            self._wanted[kind, shard] = self._wanted.get((kind, shard)) or TRACEPARENT.get()
            if self._thread is None:
                self._thread = Thread(target=self._send_all, name="wakeups", daemon=True)
                self._thread.start()
            self._more.notify()

    def send(self, kind: Kind, shard: int) -> bool:
        """Send a wake-up now, whatever the marks say; False if the broker does not take it."""
        return self._send(kind, shard, self._marks.renew(DRAIN_OF[kind], shard))

    def _send(self, kind: Kind, shard: int, name: str, traceparent: str | None = None) -> bool:
        kwargs = {"wakeup": name} if traceparent is None else {"wakeup": name, "traceparent": traceparent}
        try:
            self._app.send_task(DRAIN_OF[kind], args=(shard,), kwargs=kwargs)
        except Exception as error:  # noqa: BLE001  # kombu raises what the transport's library raises
            log.warning("wakeup.not_sent", kind=kind, shard=shard, why=reason_of(error) or type(error).__name__)
            return False
        return True

    def _send_all(self) -> None:
        while True:
            with self._more:
                while not self._wanted:
                    self._more.wait()
                wanted, self._wanted = self._wanted, {}
            for (kind, shard), traceparent in wanted.items():
                try:
                    if (name := self._marks.set(DRAIN_OF[kind], shard)) is not None:
                        self._send(kind, shard, name, traceparent)
                except Exception:  # this thread has to live as long as its process
                    log.exception("wakeup.failed", kind=kind, shard=shard)
