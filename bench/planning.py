"""How long Postgres plans a recall where there are many agents, some of which have an index of their own."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from memlane.bench.bare import Bare, lane_of
from memlane.bench.figures import Percentiles, percentiles
from memlane.bench.output import Progress
from memlane.bench.statements import BATCH, Statements
from memlane.bench.structured import normal
from memlane.bench.texts import fresh_texts, queries
from memlane.contract import MemoryItem, RecallRequest
from memlane.storage import agents, tenants, upkeep
from memlane.storage.cluster import Shard
from memlane.storage.traced import Trace
from memlane.storage.upkeep import Build, Promotion
from memlane.tasks import recall
from memlane.tasks.lane import Lane
from memlane.tasks.recall import Question

_TENANT = "bench"
_PROMOTED = 20
_LARGER = 30
"""Memories of those that are promoted; an index over few is as much to plan as one over many."""
_PLANNED = re.compile(r"^Planning Time: ([0-9.]+) ms", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class PlanningFigures:
    """Of the statement that finds candidates, as EXPLAIN says; once a session knows it, it is planned no more.

    Attributes:
        agents: in one shard.
        indexes: of their own.
        ordinary_ms: for an agent without one.
        promoted_ms: for one that has one.
    """

    agents: int
    indexes: int
    ordinary_ms: Percentiles
    promoted_ms: Percentiles


def measure(here: Bare, count: int, progress: Progress) -> PlanningFigures:
    """Have so many agents in one shard, and have recalls explained."""
    trace = Trace()
    with here.cluster("planning", shard_count=1) as settings, lane_of(settings) as lane:
        lane.cluster.begin()
        tenants.create_tenant(lane.cluster.control, _TENANT)
        shard = lane.cluster.shard(0)
        names = [f"agent-{number}" for number in range(count)]
        Statements(lane, _TENANT, shard, 1024).store(_batches(names), normal(1024))
        for name in names[:_PROMOTED]:
            _promote(lane, shard, name)
        upkeep.analyze(shard, [lane.table])
        progress(f"{count:,} agents, {_PROMOTED} indexes")
        traced = Lane(settings, "bench", make_node=trace.node)
        traced.open()
        try:
            promoted, ordinary = (
                percentiles(list(_planned(traced, trace, some))) for some in (names[:_PROMOTED], names[-_PROMOTED:])
            )
        finally:
            traced.close()
    return PlanningFigures(count, _PROMOTED, ordinary, promoted)


def _batches(names: list[str]) -> Iterator[list[MemoryItem]]:
    wanted = [*(name for name in names[:_PROMOTED] for _ in range(_LARGER)), *names]
    for start in range(0, len(wanted), BATCH):
        batch = wanted[start : start + BATCH]
        yield [MemoryItem(agent=name, content=text) for name, text in zip(batch, fresh_texts(start), strict=False)]


def _promote(lane: Lane, shard: Shard, name: str) -> None:
    """An index for an agent, however few memories it has."""
    agent = agents.find(shard, _TENANT, name, lane.model.name)
    assert agent is not None, "it was filled"
    held, last = upkeep.vectors_of(shard, agent.number, lane.table)
    made = upkeep.build_index(shard, lane.table, Build(agent.number, last, 16, 64, lane.settings.index_build_mb))
    upkeep.promote(shard, agent.number, lane.model.name, Promotion(last, made, held))


def _planned(lane: Lane, trace: Trace, names: list[str]) -> Iterator[float]:
    """Milliseconds of planning, question by question; the first of a session reads catalogues, and does not count."""
    vectors = normal(len(names) + 1, seed=2)
    asked = list(zip([names[0], *names], islice(queries(1), len(names) + 1), vectors, strict=True))
    for number, (name, text, vector) in enumerate(asked):
        trace.explains = True
        trace.plans.clear()
        question = Question(_TENANT, RecallRequest(agent=name, query=text), vector)
        recall.alone(lane, question, 0, [name])
        found = [_PLANNED.search(plan.plan) for plan in trace.plans if b"compared" in plan.statement]
        if number:
            yield sum(float(match[1]) for match in found if match)
