"""Moments: notes which number was given last by now, so that the age of memories can be told from their numbers."""

import structlog

from memlane.beat.duty import Slice
from memlane.errors import MemlaneError
from memlane.storage import moments as kept
from memlane.tasks.lane import Lane

log = structlog.get_logger(__name__)


def moments(lane: Lane, _slice: Slice) -> str:
    """Note it on all shards; one that does not answer is left for next time."""
    noted = 0
    for shard in lane.cluster.shards():
        try:
            kept.note(shard)
            noted += 1
        except MemlaneError as error:
            log.warning("moments.shard_skipped", shard=shard.number, why=str(error))
    return f"{noted} shards"
