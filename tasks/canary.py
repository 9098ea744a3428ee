"""The canary of recall: how well the indexes of large agents answer, compared with exact search on samples."""

from collections.abc import Callable
from random import shuffle
from statistics import fmean, median

import structlog

from memlane.errors import MemlaneError
from memlane.storage import canary, embedding_cache, indexes
from memlane.storage.canary import Answer, Promoted
from memlane.storage.cluster import Shard
from memlane.storage.embedding_cache import Text
from memlane.storage.indexes import Known
from memlane.storage.wording import cache_key
from memlane.tasks.lane import Lane
from memlane.tasks.tuning import Canary

log = structlog.get_logger(__name__)

_AGENTS = 2
"""Of how many agents of a shard samples are taken."""

_SAMPLES = 10
"""How many vectors of an agent are asked for."""

_QUESTIONS = 20
"""How many of the questions that an agent was asked are asked again."""


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
    """What the indexes of some agents of a shard answer, each looked at as far as a recall would."""
    return [
        canary.ask(shard, one, vector, max(ef_search, one.ef_search))
        for one in canary.promoted(shard, lane.model.name, lane.table, _AGENTS)
        for vector in canary.sample(shard, one, _SAMPLES)
        if not over()
    ]


def of_agent(lane: Lane, shard: Shard, known: Known, ef_search: int) -> list[Answer]:
    """What an agent's index answers to what it was asked last; to some of its own vectors where too little is known.

    The vectors of questions come from the cache: nothing is paid for.
    """
    one = Promoted(known.agent, known.upto, lane.table)
    asked = [Text(known.tenant, cache_key(hash_)) for hash_ in indexes.questions(shard, known.agent, _QUESTIONS)]
    vectors = [found.vector for found in embedding_cache.find(lane.cluster, lane.model.name, asked).values()]
    if len(vectors) < _SAMPLES:
        vectors += canary.sample(shard, one, _SAMPLES - len(vectors))
    return [canary.ask(shard, one, vector, ef_search) for vector in vectors]
