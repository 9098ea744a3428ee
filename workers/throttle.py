"""The throttle: a worker that holds much memory claims less, then nothing, cleans up, and makes way for a new one.

So nobody is killed for what it holds, by the kernel or by Celery: what is not claimed waits in Postgres.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from time import monotonic

import billiard.pool
import structlog

from memlane.config.settings import Settings
from memlane.tasks.memory import Gauge, Use, give_back

log = structlog.get_logger(__name__)

MIB = 1024 * 1024

EASE = 10
"""A level holds until so many percent less are held, so that nobody goes back and forth."""

FEWER = 4
"""By how much claims are smaller at the first level."""

_GROWN_PERCENT = 5
"""A process that has grown by less, of what it may hold, would give little back by its end."""

_REST_S = 1.0
"""How often is cleaned up at most: it takes a tenth of a second."""


class Level(IntEnum):
    """How much is claimed."""

    ALL = 0
    """As much as ever."""
    FEW = 1
    """A quarter of it."""
    NONE = 2
    """Nothing."""


@dataclass(frozen=True, slots=True)
class Marks:
    """From which percentages on the levels hold."""

    warn: float
    stop: float

    def after(self, before: Level, percent: float) -> Level:
        """The level at a percentage, which depends on the level before: up at a mark, down only well below it."""
        if percent >= self.stop - EASE * (before is Level.NONE):
            return Level.NONE
        if percent >= self.warn - EASE * (before is not Level.ALL):
            return Level.FEW
        return Level.ALL


class Throttle:
    """The throttle of one pool process.

    Args:
        settings: this process's.
        drop_caches: drops what is kept only to save time.
        measure: what is held now; measured unless given.
        clean: gives memory back to the system.
    """

    def __init__(
        self,
        settings: Settings,
        drop_caches: Callable[[], None],
        measure: Callable[[], Use] | None = None,
        clean: Callable[[], None] = give_back,
    ) -> None:
        self._marks = Marks(settings.memory_warn_percent, settings.memory_stop_percent)
        self._drop_caches = drop_caches
        self._measure = measure or Gauge(settings.child_memory_mb * MIB).use
        self._clean = clean
        self._cleaned_at = -_REST_S
        self.may_end = False
        """Whether another process begins in place of this one when it ends."""
        self.level = Level.ALL
        """How much is claimed, as was found last."""
        self.use = self._begun = self._measure()
        """What is held, as was found last."""

    def ask(self) -> Level:
        """How much may be claimed now; before it is nothing, what can be given back is given back."""
        if self.look() is Level.NONE and monotonic() - self._cleaned_at >= _REST_S:
            self._drop_caches()
            self._clean()
            self._cleaned_at = monotonic()
            self.look()
        return self.level

    @property
    def ends(self) -> bool:
        """Whether this process should make way for a new one: it may claim nothing, and has itself grown."""
        return self.may_end and self.level is Level.NONE and self.use.own - self._begun.own >= _GROWN_PERCENT

    def look(self) -> Level:
        """See what is held now, and how much may be claimed with that."""
        self.use = self._measure()
        before, self.level = self.level, self._marks.after(self.level, self.use.percent)
        if self.level is not before:
            tell = log.info if self.level < before else log.warning
            tell("throttle", claims=self.level.name.lower(), own=round(self.use.own), around=round(self.use.around))
        return self.level


def recycle(throttle: Throttle, settings: Settings) -> None:
    """Have the pool end this process in good order, after a task, when its throttle says so.

    billiard asks after each task how much is held, and ends a process with more than `worker_max_memory_per_child` as
    it ends one that has done its share: the task is acknowledged, signals are sent, a new process begins. But by itself
    it asks how much was ever held at once (ru_maxrss), which counts against a process that gave it back, and knows
    nothing of the machine. What is no child of a pool (`--pool solo`) goes on: nobody would begin in its place.
    """
    if not billiard.current_process().daemon:
        return
    throttle.may_end = True
    more = settings.child_memory_mb * 1024 + 1

    def held_kb() -> int:
        throttle.ask()
        if not throttle.ends:
            return 1
        log.info("throttle.ends", own=round(throttle.use.own), around=round(throttle.use.around))
        return more

    billiard.pool.mem_rss = held_kb
