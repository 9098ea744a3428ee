"""Expire: forgets the memories whose time is over, once per slot of time. Readers leave them out before."""

import structlog

from memlane.errors import MemlaneError
from memlane.storage import ticks
from memlane.tasks import forget
from memlane.tasks.lane import Lane

log = structlog.get_logger(__name__)


def expire(lane: Lane, holder: str) -> None:
    """Forget what has expired on all shards, unless somebody else does or did in this slot."""
    every_s = lane.settings.expire_every_s
    with ticks.once_per_slot(lane.cluster.control, "expire", every_s, holder) as mine:
        if not mine:
            return
        removed = 0
        for shard in lane.cluster.shards():
            try:
                removed += forget.remove_expired(lane, shard)
            except MemlaneError as error:
                log.warning("expire.shard_skipped", shard=shard.number, why=str(error))
        log.info("expire.done", memories=removed)
