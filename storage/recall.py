"""Recall in one shard: the statement is chosen here, by what is known of the agent, not by the planner."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from psycopg.types.numeric import Int8

from memlane.contract import Filters, Tier
from memlane.contract.tiers import HOT, WARM
from memlane.storage import queries
from memlane.storage.agents import Agent
from memlane.storage.cluster import Shard
from memlane.storage.connections import Row
from memlane.storage.halfvec import Vector, half
from memlane.storage.memories import VISIBLE, filter_params
from memlane.storage.nodes import Params

_SQL = queries.load("recall")

_ALL = 2000
"""Of agents with so many memories every one that has a word of the question is looked at; of larger ones the best."""

_MOST = 1000
"""How many memories of a larger agent the words bring, about; docs/decisions/0022 has what it costs in quality."""

_SAMPLE = 200
"""By how many of its newest memories it is told which words are common in it."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A memory that may be a hit.

    Attributes:
        agent: whose it is, by name.
        number: the memory's, in the agent's shard.
        thread: the conversation that it belongs to, if any.
        position: its place there.
        similarity: cosine of query and memory, None without a vector.
        words: how well the words match, None where none does.
    """

    agent: str
    number: int
    thread: str | None
    position: int | None
    similarity: float | None
    words: float | None


@dataclass(frozen=True, slots=True)
class Ages:
    """The age of memories by their numbers, in one shard: those with larger numbers are hot, or at least warm.

    Both are 0 where nothing is as old as that.
    """

    hot_after: int
    warm_after: int


@dataclass(frozen=True, slots=True)
class Reach:
    """Memories of some tiers, but not of all, in one shard."""

    tiers: frozenset[Tier]
    ages: Ages

    @property
    def condition(self) -> str:
        """The part of a query that tells which these are; what is merely fresh is found sooner."""
        return "fresh" if self.tiers in (_HOT, _FRESH) else "in_tiers"

    @property
    def params(self) -> Params:
        """As parameters of that part."""
        hot_s, warm_s = HOT.total_seconds(), WARM.total_seconds()
        if self.tiers == _HOT:
            return {"fresh_after": self.ages.hot_after, "fresh_s": hot_s}
        if self.tiers == _FRESH:
            return {"fresh_after": self.ages.warm_after, "fresh_s": warm_s}
        tiers = sorted(tier.value for tier in self.tiers)
        return {**asdict(self.ages), "hot_s": hot_s, "warm_s": warm_s, "tiers": tiers}


_HOT = frozenset({Tier.HOT})
_FRESH = frozenset({Tier.HOT, Tier.WARM})


@dataclass(frozen=True, slots=True)
class Search:
    """What is looked for: the query's text, its vector if it could be had, and filters."""

    query: str
    vector: Vector | None
    filters: Filters
    table: str
    """The current model's table."""
    text_search: str
    """How words are stemmed."""
    candidates: int
    """How many of each kind of match are wanted."""
    reach: Reach | None = None
    """Of which tiers; None: of all."""
    ef_search: int = 200
    """How much of an agent's own index is looked at."""


def candidates(shard: Shard, agent: Agent, search: Search) -> list[Candidate]:
    """The memories of an agent that match best, by meaning and by words, in no order."""
    form = _form(agent, search)
    found = _candidates(shard, agent, search, form)
    if form == "indexed_similarity" and agent.conditional and _few(found, search.candidates):
        return _candidates(shard, agent, search, "filtered_similarity")
    return found


def _few(found: list[Candidate], wanted: int) -> bool:
    """Whether most of what the index brought up is not to be seen."""
    return 2 * sum(candidate.similarity is not None for candidate in found) < wanted


def _candidates(shard: Shard, agent: Agent, search: Search, form: str) -> list[Candidate]:
    statement = _SQL["candidates"].render(
        matches=_SQL["every_match" if agent.memories <= _ALL else "best_matches"].text,
        similarity=_SQL[form].text,
        **_parts(shard, search, conditional=agent.conditional, joined=search.filters.any or agent.conditional),
        whose="%(agent)s",
        # A partial index is only used when its agent and number stand in the statement itself.
        **({"agent": str(agent.number), "upto": str(agent.indexed_upto)} if form == "indexed_similarity" else {}),
    )
    # As one type each, whatever their size: with others the statement would be planned anew.
    params = {
        **_params(search, agent.memories, agent.mean_words),
        "agent": Int8(agent.number),
        "forgotten_before": Int8(agent.forgotten_before),
        "sample": _SAMPLE,
        "most": _MOST,
    }
    by_index = form == "indexed_similarity"
    ef_search = max(search.ef_search, agent.ef_search)
    rows = with_index(shard, statement, params, ef_search) if by_index else shard.node.run(statement, params)
    return [Candidate(agent.name, *row) for row in rows]


def candidates_of_many(shard: Shard, agents: Sequence[Agent], search: Search) -> list[Candidate]:
    """The memories of several small agents that match best, all together, in no order."""
    conditional = any(agent.conditional for agent in agents)
    joined = search.filters.any or search.reach is not None or conditional
    statement = _SQL["candidates_of_many"].render(
        near=_SQL["near_of_none" if search.vector is None else "near_of_many"].text,
        **_parts(shard, search, conditional=conditional, joined=joined),
        whose="chosen.agent",
    )
    memories = sum(agent.memories for agent in agents)
    words = sum(agent.memories * agent.mean_words for agent in agents)
    params = {
        **_params(search, memories, max(1.0, words / memories) if memories else 1.0),
        "agents": [agent.number for agent in agents],
        "marks": [agent.forgotten_before for agent in agents],
    }
    names = {agent.number: agent.name for agent in agents}
    return [Candidate(names[number], *row) for number, *row in shard.node.run(statement, params)]


def _parts(shard: Shard, search: Search, *, conditional: bool, joined: bool) -> dict[str, str]:
    """What both statements are put together from, in the order in which the places are filled in.

    Args:
        shard: where they run.
        search: what is looked for.
        conditional: whether memories may have expired or been superseded.
        joined: whether something is asked of the memories whose vectors are compared.
    """
    filtered = _SQL["holds"].text if search.filters.any else "true"
    reach = _SQL[search.reach.condition].text if search.reach else "true"
    return {
        "lexemes": _SQL["lexemes"].text,
        "share": _SQL["share"].text,
        "rarity": _SQL["rarity"].text,
        "filtered": filtered,
        "with_memories": _SQL["with_memories"].text if joined else "",
        "holds": f"{filtered} AND {reach}",
        "visible": VISIBLE if conditional else "true",
        "of_one": "NULL::float8" if search.vector is None else _SQL["of_one"].text,
        "shard": shard.schema,
        "vectors": search.table,
    }


def _params(search: Search, memories: int, mean_words: float) -> dict[str, Any]:
    """What both statements are asked with."""
    return {
        "memories": Int8(memories),
        "mean_words": mean_words,
        "query": search.query,
        "text_search": search.text_search,
        "candidates": search.candidates,
        "vector": None if search.vector is None else half(search.vector),
        **filter_params(search.filters),
        **(search.reach.params if search.reach else {}),
    }


def with_index(shard: Shard, statement: bytes, params: Params, ef_search: int) -> list[Row]:
    """The rows of a statement that goes by an agent's own index, under settings for this transaction alone."""
    with shard.node.connection() as connection, connection.pipeline(), connection.transaction():
        connection.execute(_SQL["prepare_index_scan"].render(), {"ef_search": str(ef_search)})
        return connection.execute(statement, params, prepare=True, binary=True).fetchall()


def _form(agent: Agent, search: Search) -> str:
    """Which statement compares the vectors: exactly, unless the agent has outgrown that."""
    if search.vector is None:
        return "no_similarity"
    if search.reach:
        return "fresh_similarity" if search.reach.condition == "fresh" else "filtered_similarity"
    if search.filters.any:
        return "filtered_similarity"
    if agent.indexed_upto:
        return "indexed_similarity"  # what is not to be seen is sorted out among its candidates
    return "filtered_similarity" if agent.conditional else "every_similarity"
