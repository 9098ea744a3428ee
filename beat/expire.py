"""Expire: forgets the memories whose time is over. Readers leave them out before."""

import structlog

from memlane.beat.duty import Slice
from memlane.errors import MemlaneError
from memlane.tasks import forget
from memlane.tasks.lane import Lane

log = structlog.get_logger(__name__)


def expire(lane: Lane, slice_: Slice) -> str:
    """Forget what has expired on all shards; one that does not answer is left for next time."""
    removed = 0
    for shard in lane.cluster.shards():
        if slice_.over:
            break
        try:
            here = forget.remove_expired(lane, shard)
            lane.measures.expired(here)
            removed += here
        except MemlaneError as error:
            log.warning("expire.shard_skipped", shard=shard.number, why=str(error))
    return f"{removed} memories"
