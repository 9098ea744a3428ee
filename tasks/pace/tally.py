"""How many requests this process has sent since it told the line, which wants to know where no limit is set."""

from threading import Lock
from time import monotonic

_EVERY_S = 1.0
"""Each telling is a write, which Redis may have to bring to its disk; a look is not."""


class Tally:
    """Counts; safe in several threads."""

    def __init__(self) -> None:
        self._count = 0
        self._told_at = 0.0
        self._lock = Lock()

    def add(self) -> None:
        """One more."""
        with self._lock:
            self._count += 1

    def due(self) -> int:
        """How many to tell of now, which is 0 but for once a second."""
        with self._lock:
            return self._take() if monotonic() >= self._told_at + _EVERY_S else 0

    def take(self) -> int:
        """All that were not told of yet."""
        with self._lock:
            return self._take()

    def _take(self) -> int:
        count, self._count, self._told_at = self._count, 0, monotonic()
        return count
