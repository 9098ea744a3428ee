"""A duty: something that is due regularly, in slices of time. What a slice is too short for is left to the next run."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from time import monotonic
from typing import TypeVar

import structlog

from memlane.config.settings import Settings
from memlane.errors import MemlaneError
from memlane.storage.cluster import Shard
from memlane.tasks.lane import Lane

log = structlog.get_logger(__name__)

T = TypeVar("T")

DAY_S = 23.5 * 3600
"""What is done once a day is due after so long; a little less than a day, since duties have their slots."""


class Slice:
    """The time that a run of a duty has.

    Args:
        seconds: how long, from now.
    """

    def __init__(self, seconds: float) -> None:
        self._until = monotonic() + seconds

    @property
    def left_s(self) -> float:
        """How much of it is left, in seconds; 0 when it is over."""
        return max(0.0, self._until - monotonic())

    @property
    def over(self) -> bool:
        """Whether it is time to stop."""
        return self.left_s == 0.0


@dataclass(frozen=True, slots=True)
class Duty:
    """Something that is due regularly, and done once per slot of time.

    Attributes:
        work: does it, and says in a line what it came to; idempotent, since a run may break off anywhere.
        every: how often it is due, in seconds, as the settings say; None: never.
        slice_s: how long a run may take. It looks itself whether its slice is over; one that does not is stopped.
    """

    work: Callable[[Lane, Slice], str]
    every: Callable[[Settings], float | None]
    slice_s: float


def on_each(duty: str, shards: Iterable[Shard], slice_: Slice, work: Callable[[Shard], T]) -> Iterator[T]:
    """What the work comes to on each shard, until the slice is over; one that does not answer is left for next time."""
    for shard in shards:
        if slice_.over:
            return
        try:
            done = work(shard)
        except MemlaneError as error:
            log.warning("duty.shard_skipped", duty=duty, shard=shard.number, why=str(error))
        else:
            yield done
