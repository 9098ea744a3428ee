"""The search by meaning alone: how long the very statement takes, and how many of the nearest it finds."""

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter

import numpy as np

from memlane.bench.figures import Percentiles, percentiles
from memlane.contract import Filters
from memlane.contract.upkeep import Knob
from memlane.storage import agents, recall
from memlane.storage.agents import Agent
from memlane.storage.cluster import Shard
from memlane.storage.halfvec import Matrix, Vector
from memlane.storage.recall import Search
from memlane.tasks.lane import Lane
from memlane.tasks.recall import CANDIDATES

_NEAREST = 10
_WORDLESS = "?"
"""A question without words: only vectors are compared."""
_WARMING = 6
"""From the sixth time on a prepared statement has the plan that it keeps."""
_SAME = 1e-5
"""Similarities that differ by less are one."""


@dataclass(frozen=True, slots=True)
class Nearness:
    """Of one agent.

    Attributes:
        ms: from the statement to its rows, in the process that asks Postgres.
        recall: the share of the ten nearest, as numpy finds them, that are among the ten best found.
        asked: questions.
    """

    ms: Percentiles
    recall: float
    asked: int


def nearness(lane: Lane, shard: Shard, tenant: str, name: str, vectors: Matrix, questions: Matrix) -> Nearness:
    """Ask, and compare with what is there.

    Args:
        lane: whose connections are used.
        shard: where the agent is.
        tenant: whose it is.
        name: of the agent.
        vectors: of all its memories, in the order in which they were stored.
        questions: theirs.
    """
    agent = agents.find(shard, tenant, name, lane.model.name)
    assert agent is not None, "it was filled"
    for question in questions[:_WARMING]:
        _ask(lane, shard, agent, question)
    times, shares, kept = [], [], _halved(vectors)
    for question in questions:
        begun = perf_counter()
        found = _ask(lane, shard, agent, question)
        times.append((perf_counter() - begun) * 1000)
        shares.append(_share(found, kept @ _halved(question)))
    return Nearness(percentiles(times), round(float(np.mean(shares)), 4), len(questions))


def _ask(lane: Lane, shard: Shard, agent: Agent, question: Vector) -> list[float]:
    """The similarities that were found, the largest first."""
    settings = lane.settings
    ef_search = lane.cluster.knobs.of(settings, Knob.EF_SEARCH)
    how = (lane.table, settings.text_search, CANDIDATES)
    found = recall.candidates(shard, agent, Search(_WORDLESS, question, Filters(), *how, ef_search=ef_search))
    return sorted((one.similarity for one in found if one.similarity is not None), reverse=True)


def _share(found: Sequence[float], similarities: Vector) -> float:
    """How many of the nearest are there; those that are as near are as good."""
    wanted = min(_NEAREST, len(similarities))
    least = float(np.partition(similarities, -wanted)[-wanted]) - _SAME
    return sum(similarity >= least for similarity in found[:wanted]) / wanted


def _halved(values: Matrix) -> Matrix:
    """As Postgres keeps them: in half precision."""
    return values.astype(np.float16).astype(np.float32)
