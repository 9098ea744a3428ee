"""Looks: what is read again and again in the background, so that whoever needs it on a hot path has it at hand."""

from collections.abc import Callable
from threading import Event, Lock, Thread
from time import monotonic
from typing import Generic, TypeVar

import structlog

from memlane.errors import MemlaneError

log = structlog.get_logger(__name__)

T = TypeVar("T")

_FIRST_S = 1.0
"""How long whoever asks first waits for the first answer."""

_REST = 20
"""A look rests for so many times as long as it took, so that what is slow to count is counted more seldom."""


class Looked(Generic[T]):
    """What a process knows by a look of its own."""

    _look: "Look[T]"

    def begin(self) -> None:
        """Look now, before somebody comes who cannot wait for it."""
        _ = self._look.value

    def hurry(self) -> None:
        """It was changed through this process."""
        self._look.hurry()

    def close(self) -> None:
        """Look no more."""
        self._look.close()


class Look(Generic[T]):
    """A value as it was read last; while it cannot be read, what was read before goes on.

    A thread of its own begins with the first who asks: a process that never does, reads nothing.

    Args:
        name: for the log.
        read: reads it.
        every_s: how often.
        first: what holds until it was read for the first time.
    """

    def __init__(self, name: str, read: Callable[[], T], every_s: float, first: T) -> None:
        self._name = name
        self._read = read
        self._every_s = every_s
        self._value = first
        self._lock = Lock()
        self._thread: Thread | None = None
        self._was_read = Event()
        self._now = Event()
        self._closed = False
        self._failing = False

    @property
    def value(self) -> T:
        """What was read last. The first who asks waits for a moment, nobody else does."""
        if self._thread is None:
            self._begin()
            self._was_read.wait(_FIRST_S)
        return self._value

    def hurry(self) -> None:
        """It has changed: read it now."""
        self._now.set()

    def close(self) -> None:
        """Read it no more."""
        self._closed = True
        self._now.set()

    def _begin(self) -> None:
        with self._lock:
            if self._thread is None and not self._closed:
                self._thread = Thread(target=self._run, name=f"look {self._name}", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while not self._closed:
            self._now.clear()
            begun = monotonic()
            self._look()
            self._now.wait(max(self._every_s, _REST * (monotonic() - begun)))

    def _look(self) -> None:
        try:
            self._value = self._read()
        except Exception as error:
            if not self._closed and not self._failing:
                self._failing = True
                log.warning("look.failed", of=self._name, exc_info=not isinstance(error, MemlaneError), why=str(error))
        else:
            self._failing = False
        self._was_read.set()
