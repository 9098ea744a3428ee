"""Analyze: keeps the planner's statistics of every shard up to date."""

import structlog

from memlane.errors import MemlaneError
from memlane.storage import upkeep
from memlane.storage.forget import vector_tables
from memlane.tasks.lane import Lane

log = structlog.get_logger(__name__)


def analyze(lane: Lane) -> None:
    """Analyze all shards; one that does not answer is left for next time."""
    for shard in lane.cluster.shards():
        try:
            upkeep.analyze(shard, vector_tables(shard))
        except MemlaneError as error:
            log.warning("analyze.shard_skipped", shard=shard.number, why=str(error))
    log.info("analyze.done", shards=lane.cluster.shard_count)
