"""Expire: forgets the memories whose time is over. Readers leave them out before."""

from memlane.beat.duty import Slice, on_each
from memlane.storage.cluster import Shard
from memlane.tasks import forget
from memlane.tasks.lane import Lane


def expire(lane: Lane, slice_: Slice) -> str:
    """Forget what has expired on all shards."""

    def work(shard: Shard) -> int:
        removed = forget.remove_expired(lane, shard)
        lane.measures.expired(removed)
        return removed

    return f"{sum(on_each('expire', lane.cluster.shards(), slice_, work))} memories"
