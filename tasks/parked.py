"""What is decided about parked jobs: try them again, or give them up."""

from collections.abc import Callable, Sequence

from memlane.storage import parked
from memlane.storage.cluster import Shard
from memlane.tasks import embedding
from memlane.tasks.lane import Lane

Decide = Callable[[Lane, int, Sequence[int]], int]
"""Does something to parked jobs of a shard, by their numbers; how many there were."""


def retry(lane: Lane, shard: int, numbers: Sequence[int]) -> int:
    """Open parked jobs of a shard again and wake who does them; how many were parked.

    Raises:
        Unavailable: it is not known whether they were; asking again does no harm.
    """
    opened = lane.cluster.on(shard, lambda here: parked.retry(here, numbers, lane.table))
    for kind in set(opened):
        lane.wake(kind, shard)
    return len(opened)


def drop(lane: Lane, shard: int, numbers: Sequence[int]) -> int:
    """Give parked jobs of a shard up; how many were parked. Jobs that forget something stay.

    A memory that was not stored is forgotten for good, with the vector of its text that the cache may hold.

    Raises:
        Unavailable: it is not known whether they were; asking again does no harm.
    """

    def work(here: Shard) -> int:
        gone = parked.drop(here, numbers, lane.table)
        for tenant in {one.tenant for one in gone}:
            hashes = [one.hash for one in gone if one.tenant == tenant and one.hash is not None]
            if hashes:
                embedding.drop(lane, tenant, hashes)
        return len(gone)

    return lane.cluster.on(shard, work)
