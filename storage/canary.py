"""The canary: asks an agent's index for what is known, and tells how much of it came up."""

from dataclasses import dataclass
from time import monotonic

from memlane.storage import queries
from memlane.storage.cluster import Shard
from memlane.storage.halfvec import Vector, as_vector, half
from memlane.storage.recall import with_index

_SQL = queries.load("canary")

NEAREST = 10
"""How many of the nearest are asked for."""

_SAME = 1e-6
"""Similarities that differ by less are one."""


@dataclass(frozen=True, slots=True)
class Promoted:
    """An agent that has an index over its vectors up to a number, in a table; so much is looked at, at least."""

    agent: int
    upto: int
    table: str
    ef_search: int = 0


@dataclass(frozen=True, slots=True)
class Answer:
    """Which share of the nearest came up, and how long that took."""

    recall: float
    ms: float


def promoted(shard: Shard, model: str, table: str, limit: int) -> list[Promoted]:
    """Some agents that have an index, in any order."""
    rows = shard.run(_SQL["promoted"], {"model": model, "limit": limit})
    return [Promoted(agent, upto, table, ef_search) for agent, upto, ef_search in rows]


def sample(shard: Shard, one: Promoted, count: int) -> list[Vector]:
    """Some of the vectors in an agent's index."""
    params = {"agent": one.agent, "upto": one.upto, "count": count}
    return [as_vector(row) for (row,) in shard.run(_SQL["sample"], params, vectors=one.table)]


def ask(shard: Shard, one: Promoted, vector: Vector, ef_search: int) -> Answer:
    """Ask for the nearest of a vector, exactly and by the index."""
    params = {"vector": half(vector), "agent": one.agent, "upto": one.upto, "nearest": NEAREST}
    exact = [float(row[0]) for row in shard.run(_SQL["exact"], params, vectors=one.table)]
    places = {"agent": str(one.agent), "upto": str(one.upto)}
    statement = shard.render(_SQL["indexed"], vectors=one.table, **places)
    begun = monotonic()
    found = with_index(shard, statement, {"vector": params["vector"], "nearest": NEAREST}, ef_search)
    ms = (monotonic() - begun) * 1000
    hits = sum(float(row[0]) >= exact[-1] - _SAME for row in found) if exact else 0
    return Answer(hits / len(exact) if exact else 1.0, ms)
