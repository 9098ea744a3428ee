"""Recall in one shard: the statement is chosen here, by what is known of the agent, not by the planner."""

from dataclasses import dataclass

from memlane.contract import Filters
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
    statement = _SQL["candidates"].render(
        similarity=_SQL[form].text,
        holds=_SQL["holds"].text if search.filters.any else "true",
        visible=VISIBLE if agent.conditional else "true",
        shard=shard.schema,
        vectors=search.table,
        # A partial index is only used when its agent and number stand in the statement itself.
        **({"agent": str(agent.number), "upto": str(agent.indexed_upto)} if form == "indexed_similarity" else {}),
    )
    run = _with_index if form == "indexed_similarity" else _plainly
    rows = run(shard, statement, params)
    return [Candidate(agent.name, *row) for row in rows]


def _plainly(shard: Shard, statement: bytes, params: Params) -> list[Row]:
    return shard.node.run(statement, params)


def _with_index(shard: Shard, statement: bytes, params: Params) -> list[Row]:
    """The rows of a statement that goes by an agent's own index, under settings for this transaction alone."""
    with shard.node.connection() as connection, connection.pipeline(), connection.transaction():
        connection.execute(_SQL["prepare_index_scan"].render())
        return connection.execute(statement, params, prepare=True, binary=True).fetchall()


def _form(agent: Agent, search: Search) -> str:
    """Which statement compares the vectors: exactly, unless the agent has outgrown that."""
    if search.vector is None:
        return "no_similarity"
    if search.filters.any:
        return "filtered_similarity"
    if agent.indexed_upto:
        return "indexed_similarity"  # what is not to be seen is sorted out among its candidates
    return "filtered_similarity" if agent.conditional else "every_similarity"
