"""Analyze: keeps the planner's statistics of every shard up to date, once per slot of time."""

import structlog

from memlane.errors import MemlaneError
from memlane.storage import ticks, upkeep
from memlane.storage.forget import vector_tables
from memlane.tasks.lane import Lane

log = structlog.get_logger(__name__)


def analyze(lane: Lane, holder: str) -> None:
    """Analyze all shards, unless somebody else does or did in this slot."""
    every_s = lane.settings.analyze_every_s
    with ticks.once_per_slot(lane.cluster.control, "analyze", every_s, holder) as mine:
        if not mine:
            return
        for shard in lane.cluster.shards():
            try:
                upkeep.analyze(shard, vector_tables(shard))
            except MemlaneError as error:
                log.warning("analyze.shard_skipped", shard=shard.number, why=str(error))
        log.info("analyze.done", shards=lane.cluster.shard_count)
