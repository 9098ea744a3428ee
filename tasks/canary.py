"""The canary of recall: how well the indexes of large agents answer, compared with exact search on samples."""

from collections.abc import Callable
from random import shuffle
from statistics import fmean, median

import structlog

from memlane.errors import MemlaneError
from memlane.storage import canary
from memlane.storage.canary import Answer
from memlane.storage.cluster import Shard
from memlane.tasks.lane import Lane
from memlane.tasks.tuning import Canary

log = structlog.get_logger(__name__)

_AGENTS = 2
"""Of how many agents of a shard samples are taken."""

_SAMPLES = 10
"""How many vectors of an agent are asked for."""


def sing(lane: Lane, ef_search: int, over: Callable[[], bool] = lambda: False) -> Canary | None:
    """Ask the indexes of some agents of all shards; None where there is none, or time was over before the first.

    Args:
        lane: this process's.
        ef_search: how much of an index is looked at.
        over: whether it is time to stop.
    """
    answers: list[Answer] = []
    shards = lane.cluster.shards()
    shuffle(shards)
    for shard in shards:
        if over():
            break
        try:
            answers += of_shard(lane, shard, ef_search, over)
        except MemlaneError as error:
            log.warning("canary.shard_skipped", shard=shard.number, why=str(error))
    if not answers:
        return None
    return Canary(fmean(one.recall for one in answers), median(one.ms for one in answers), len(answers))


def of_shard(lane: Lane, shard: Shard, ef_search: int, over: Callable[[], bool] = lambda: False) -> list[Answer]:
    """What the indexes of some agents of a shard answer."""
    return [
        canary.ask(shard, one, vector, ef_search)
        for one in canary.promoted(shard, lane.model.name, lane.table, _AGENTS)
        for vector in canary.sample(shard, one, _SAMPLES)
        if not over()
    ]
