"""Recall in one shard: the statement is chosen here, by what is known of the agent, not by the planner."""

from dataclasses import asdict, dataclass

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
    params = {
        "agent": agent.number,
        "forgotten_before": agent.forgotten_before,
        "memories": agent.memories,
        "mean_words": agent.mean_words,
        "query": search.query,
        "text_search": search.text_search,
        "candidates": search.candidates,
        "vector": None if search.vector is None else half(search.vector),
        **filter_params(search.filters),
        **(search.reach.params if search.reach else {}),
    }
    form = _form(agent, search)
    found = _candidates(shard, agent, search, params, form)
    if form == "indexed_similarity" and agent.conditional and _few(found, search.candidates):
        return _candidates(shard, agent, search, params, "filtered_similarity")
    return found


def _few(found: list[Candidate], wanted: int) -> bool:
    """Whether most of what the index brought up is not to be seen."""
    return 2 * sum(candidate.similarity is not None for candidate in found) < wanted


def _candidates(shard: Shard, agent: Agent, search: Search, params: Params, form: str) -> list[Candidate]:
    filtered = _SQL["holds"].text if search.filters.any else "true"
    joined = _SQL["with_memories"].text if search.filters.any or agent.conditional else ""
    statement = _SQL["candidates"].render(
        similarity=_SQL[form].text.replace("{filtered}", filtered).replace("{with_memories}", joined),
        holds=f"{filtered} AND {_SQL[search.reach.condition].text}" if search.reach else filtered,
        visible=VISIBLE if agent.conditional else "true",
        shard=shard.schema,
        vectors=search.table,
        # A partial index is only used when its agent and number stand in the statement itself.
        **({"agent": str(agent.number), "upto": str(agent.indexed_upto)} if form == "indexed_similarity" else {}),
    )
    by_index = form == "indexed_similarity"
    ef_search = max(search.ef_search, agent.ef_search)
    rows = with_index(shard, statement, params, ef_search) if by_index else shard.node.run(statement, params)
    return [Candidate(agent.name, *row) for row in rows]


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
