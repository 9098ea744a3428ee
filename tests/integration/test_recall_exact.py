"""Whatever statement is chosen, recall finds what looking at every memory finds."""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count
from math import log
from uuid import UUID, uuid4

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memlane.config.settings import Settings
from memlane.contract import Filters, MemoryItem, Tier
from memlane.storage import agents, recall
from memlane.storage.agents import Agent
from memlane.storage.cluster import Shard
from memlane.storage.jobs import Kind
from memlane.storage.recall import Ages, Candidate, Reach, Search
from memlane.tasks import forget
from memlane.tasks.embedders.hash import HashEmbedder
from memlane.tasks.lane import Lane
from memlane.workers import drains
from memlane.workers.wakeups import DRAIN_OF
from tests.support import accepted, process_of, sql

_WORDS = ("tea", "boat", "lake", "green", "violin", "storm", "recipe", "marathon")
_RUNS = count(1)


@dataclass(frozen=True)
class Told:
    """A memory as it is handed over, and what becomes of it."""

    words: tuple[str, ...]
    kind: str
    tags: tuple[str, ...]
    importance: float
    expired: bool
    forgotten: bool
    supersedes: int | None
    """How many memories before this one."""


TOLD = st.builds(
    Told,
    words=st.lists(st.sampled_from(_WORDS), min_size=1, max_size=6).map(tuple),
    kind=st.sampled_from(["fact", "event"]),
    tags=st.sampled_from([(), ("a",), ("a", "b")]),
    importance=st.sampled_from([0.1, 0.5, 0.9]),
    expired=st.booleans(),
    forgotten=st.sampled_from([False, False, False, True]),
    supersedes=st.none() | st.integers(1, 5),
)
TOLD_OF_AGENT = st.tuples(st.lists(TOLD, max_size=3), st.lists(TOLD, min_size=1, max_size=14))
"""What an agent was told before everything of it was forgotten, and after."""

FILTERS = st.sampled_from(
    [
        Filters(),
        Filters(kinds=("fact",)),
        Filters(tags=("a",)),
        Filters(min_importance=0.5),
        Filters(include_superseded=True),
        Filters(kinds=("event",), tags=("b",), include_superseded=True),
    ]
)
TIERS = st.none() | st.sets(st.sampled_from(list(Tier)), min_size=1, max_size=2).map(frozenset)


@dataclass(frozen=True)
class Row:
    """A memory that is there, as the test itself knows it."""

    agent: str
    item: MemoryItem
    number: int


@pytest.fixture(scope="module")
def lasting(lasting_settings: Settings) -> Iterator[Lane]:
    """A lane for all examples: each has agents of its own."""
    lane = Lane(lasting_settings, "test")
    lane.open()
    yield lane
    lane.close()


def agents_of_one_shard(lane: Lane, wanted: int) -> list[str]:
    """Names that nobody has, on shard 0."""
    names = (f"agent-{next(_RUNS)}" for _ in count())
    here = (name for name in names if lane.cluster.shard_of("acme", name) == 0)
    return [next(here) for _ in range(wanted)]


def tell(lane: Lane, told: Mapping[str, tuple[Sequence[Told], Sequence[Told]]]) -> list[MemoryItem]:
    """Have agents remember, and forget; what is left of it."""
    _remember(lane, [_item(agent, one, []) for agent, (before, _) in told.items() for one in before])
    for agent, (before, _) in told.items():
        if before:
            forget.forget_agent(lane, "acme", agent)
    items: list[MemoryItem] = []
    gone: list[MemoryItem] = []
    for agent, (_, after) in told.items():
        own: list[MemoryItem] = []
        for one in after:
            own.append(_item(agent, one, own))
        items += own
        gone += [item for item, one in zip(own, after, strict=True) if one.forgotten]
    _remember(lane, items)
    for item in gone:
        forget.forget_memory(lane, "acme", item.agent, _id(item))
    return [item for item in items if item not in gone]


def _remember(lane: Lane, items: Sequence[MemoryItem]) -> None:
    if items:
        accepted(lane, *items)
        drains.drain(process_of(lane), DRAIN_OF[Kind.REMEMBER], 0)


def _item(agent: str, told: Told, before: Sequence[MemoryItem]) -> MemoryItem:
    expired = datetime.now(UTC) - timedelta(seconds=1) if told.expired and len(before) % 4 == 0 else None
    supersedes = _id(before[-told.supersedes]) if told.supersedes and len(before) >= told.supersedes else None
    more = {"tags": told.tags, "importance": told.importance, "expires_at": expired, "supersedes": supersedes}
    return MemoryItem.model_validate(
        {"agent": agent, "id": uuid4(), "content": " ".join(told.words), "kind": told.kind, **more}
    )


def _id(item: MemoryItem) -> UUID:
    assert item.id is not None
    return item.id


def rows_of(shard: Shard, lane: Lane, items: Sequence[MemoryItem]) -> list[Row]:
    with sql(lane.settings, shard.node.name) as connection:
        found = connection.execute(f"SELECT id, number FROM {shard.schema}.memories".encode()).fetchall()
    numbers = dict(found)
    return [Row(item.agent, item, numbers[item.id]) for item in items]


def passing(rows: Sequence[Row], search: Search) -> list[Row]:
    """The memories that may be found, by the rules of the contract alone."""
    alive = [row for row in rows if row.item.expires_at is None]
    replaced = {row.item.supersedes for row in alive}
    filters = search.filters
    return [
        row
        for row in alive
        if (filters.include_superseded or row.item.id not in replaced)
        and (not filters.kinds or row.item.kind in filters.kinds)
        and set(filters.tags) <= set(row.item.tags)
        and row.item.importance >= filters.min_importance
        and (search.reach is None or _tier(row.number, search.reach.ages) in search.reach.tiers)
    ]


def _tier(number: int, ages: Ages) -> Tier:
    return Tier.HOT if number > ages.hot_after else Tier.WARM if number > ages.warm_after else Tier.COLD


def word_scores(
    shard: Shard, lane: Lane, found: Sequence[Row], asked: Sequence[Agent], query: str
) -> Mapping[int, float]:
    """BM25 as docs/decisions/0003 has it, memory by memory."""
    with sql(lane.settings, shard.node.name) as connection:
        ranks = connection.execute(
            "SELECT m.number, t.lexeme, ts_rank('{0.1, 0.1, 0.1, 0.1}', m.words, quote_literal(t.lexeme)::tsquery),"
            f" length(m.words) FROM {shard.schema}.memories m CROSS JOIN unnest(to_tsvector('english', %s)) AS t"
            " WHERE m.number = ANY(%s)",
            [query, [row.number for row in found]],
        ).fetchall()
    having: dict[str, int] = defaultdict(int)
    for _, lexeme, rank, _ in ranks:
        having[lexeme] += rank > 0
    memories = sum(agent.memories for agent in asked)
    mean = sum(agent.memories * agent.mean_words for agent in asked) / memories
    scores: dict[int, float] = defaultdict(float)
    for number, lexeme, rank, words in ranks:
        n = having[lexeme]
        if rank > 0:
            idf = log(1 + (max(memories, n) - n + 0.5) / (n + 0.5))
            scores[number] += idf * rank * 16.45 / (1 + 0.24 * (words / mean - 1))
    return scores


def check(
    found: Collection[Candidate],
    rows: Sequence[Row],
    similar: Mapping[int, float],
    worded: Mapping[int, float],
    most: int,
) -> None:
    """The best of both are there, with the right scores, and nothing else is."""
    assert len({one.number for one in found}) == len(found)
    owners = {row.number: row.agent for row in rows}
    for one in found:
        assert owners[one.number] == one.agent
        assert (one.words or 0.0) == pytest.approx(worded.get(one.number, 0.0), rel=1e-4)
        assert one.similarity == pytest.approx(similar[one.number], abs=2e-3)
    for by, best in (("similarity", similar), ("words", worded)):
        values = sorted((getattr(one, by) for one in found if getattr(one, by) is not None), reverse=True)[:most]
        expected = sorted(best.values(), reverse=True)[:most]
        assert np.allclose(values[: len(expected)], expected, atol=2e-3)
        assert len(values) >= len(expected)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    told=st.lists(TOLD_OF_AGENT, min_size=1, max_size=3),
    query=st.lists(st.sampled_from(_WORDS), min_size=1, max_size=4).map(" ".join),
    filters=FILTERS,
    tiers=TIERS,
    ages=st.tuples(st.integers(0, 14), st.integers(0, 14)),
    most=st.integers(2, 20),
)
def test_as_every_memory_looked_at(
    lasting: Lane,
    monkeypatch: pytest.MonkeyPatch,
    told: list[tuple[list[Told], list[Told]]],
    query: str,
    filters: Filters,
    tiers: frozenset[Tier] | None,
    ages: tuple[int, int],
    most: int,
) -> None:
    """One agent by both ways of matching words, and several agents together."""
    shard = lasting.cluster.shard(0)
    names = agents_of_one_shard(lasting, len(told))
    rows = rows_of(shard, lasting, tell(lasting, dict(zip(names, told, strict=True))))
    asked = agents.find_all(shard, "acme", names, lasting.model.name)
    numbers = sorted(row.number for row in rows)
    old, older = (numbers[min(at, len(numbers) - 1)] if numbers else 0 for at in sorted(ages, reverse=True))
    reach = Reach(tiers, Ages(old, older)) if tiers else None
    embedder = HashEmbedder(lasting.model)
    vector = embedder.embed([query]).vectors[0]
    search = Search(query, vector, filters, lasting.table, "english", most, reach)

    def expect(found: Collection[Candidate], whose: Sequence[Agent]) -> None:
        seen = passing([row for row in rows if row.agent in {agent.name for agent in whose}], search)
        vectors = embedder.embed([row.item.text for row in seen]).vectors if seen else np.zeros((0, len(vector)))
        similar = {row.number: float(near) for row, near in zip(seen, vectors @ vector, strict=True)}
        check(found, seen, similar, word_scores(shard, lasting, seen, whose, query) if seen else {}, most)

    for exact_up_to in (2000, 0):
        monkeypatch.setattr(recall, "_ALL", exact_up_to)
        for agent in asked:
            expect(recall.candidates(shard, agent, search), [agent])
    if any(agent.memories for agent in asked):
        expect(recall.candidates_of_many(shard, asked, search), asked)
