"""Warming: vectors of questions are made, and memories read, before somebody asks for them."""

from collections.abc import Sequence

from memlane.storage import embedding_cache, memories
from memlane.storage.cluster import Shard
from memlane.storage.embedding_cache import Text
from memlane.storage.patterns import Wanted as Pattern
from memlane.storage.spending import Group
from memlane.storage.warm import Worth
from memlane.storage.wording import cache_key
from memlane.tasks import embedding
from memlane.tasks.embedding import Vectors
from memlane.tasks.lane import Lane
from memlane.tasks.provider import Wanted

_PATIENCE_S = 5.0
"""How long the provider's limits are waited for: recalls and memories go first."""


def warm(lane: Lane, patterns: Sequence[Pattern]) -> Vectors[Pattern]:
    """Have the cache know the vectors of patterns; only those that it lacks are made, and each agent pays for its own.

    A budget that refuses, or a provider, is no error: the refusals are in the answer.
    """
    names = {one: Text(one.tenant, cache_key(one.hash)) for one in patterns}
    lacking = set(embedding_cache.missing(lane.cluster, lane.model.name, list(dict.fromkeys(names.values()))))
    names = {one: name for one, name in names.items() if name in lacking}
    wanted = {one: Wanted(Group(one.tenant, one.name), one.text) for one in names}
    if not wanted:
        return Vectors({}, {})
    vectors = embedding.embed(lane, wanted, _PATIENCE_S, names)
    lane.measures.warmed(questions=len({names[one] for one in vectors.found}))
    return vectors


def preload(lane: Lane, shard: Shard, agent: Worth, numbers: Sequence[int]) -> int:
    """Read memories of an agent and their vectors, so that the node has them at hand; how many are still there.

    Args:
        lane: this process's.
        shard: where the agent lives.
        agent: whose memories.
        numbers: which.
    """
    found = memories.by_numbers(shard, agent.agent, agent.number, numbers)
    memories.vectors(shard, agent.tenant, agent.agent, numbers, lane.table)
    lane.measures.warmed(memories=len(found))
    return len(found)
