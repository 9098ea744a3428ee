"""Tiers: what is fresh is read first, and the rest when it is asked for, or needed. Resonance fades and is lifted."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from memlane.beat.duty import Slice
from memlane.beat.moments import moments
from memlane.config.settings import Settings
from memlane.contract import Recalled, RecallRequest, Receipt, Tier
from memlane.contract.parsing import parse
from memlane.contract.tiers import BORN, decayed, lifted, tier_of
from memlane.errors import InvalidInput
from memlane.storage import memories
from memlane.storage import moments as kept
from memlane.storage.cluster import Shard
from memlane.tasks.ages import KnownAges
from memlane.tasks.lane import Lane
from tests.support import item, recalled, remembered, sql

OLD, WEEK, NEW = "tea of long ago", "tea of this week", "tea of today"


def ask(lane: Lane, query: str = "tea", **more: object) -> Recalled:
    lane.ages = KnownAges()  # nobody waits for a minute here
    return recalled(lane, "acme", parse(RecallRequest, {"agent": "ada", "query": query, **more}))


def said(answer: Recalled) -> set[str]:
    return {hit.memory.content for hit in answer}


def age(settings: Settings, shard: Shard, hours: float) -> None:
    """All that is there becomes so much older; a moment was noted when it had just been handed over."""
    with sql(settings, shard.node.name) as connection:
        ago = timedelta(hours=hours)
        connection.execute(f"UPDATE {shard.schema}.memories SET created_at = created_at - %s", [ago])
        connection.execute(f"UPDATE {shard.schema}.memory_stats SET last_accessed_at = last_accessed_at - %s", [ago])
        connection.execute(f"UPDATE {shard.schema}.moments SET at = at - %s", [ago])
        connection.execute(
            f"INSERT INTO {shard.schema}.moments SELECT now() - %s, last_value FROM {shard.schema}.numbers", [ago]
        )


@pytest.fixture
def aged(lane: Lane, settings: Settings, shard: Shard) -> dict[str, Receipt]:
    """A memory of each tier, and an agent that is not too small for tiers."""
    (old,) = remembered(lane, item(OLD))
    age(settings, shard, 24 * 10)
    (week,) = remembered(lane, item(WEEK))
    age(settings, shard, 48)
    (new,) = remembered(lane, item(NEW))
    lane.settings = lane.settings.model_copy(update={"tiers_from": 1, "good_similarity": 0.1})
    return {OLD: old, WEEK: week, NEW: new}


def count_access(shard: Shard, lane: Lane, receipt: Receipt, times: int = 1) -> None:
    number = lane.numbers.of(shard, "acme", {"ada"}, register=False)["ada"]
    (row,) = shard.node.run(f"SELECT number FROM {shard.schema}.ids WHERE id = '{receipt.id}'".encode())
    memories.count_accesses(shard, {(number, row[0]): times})


@pytest.mark.parametrize(
    ("asked", "found", "tiers"),
    [
        ({}, {OLD, WEEK, NEW}, 3),  # ten were wanted: two are too few
        ({"limit": 2}, {WEEK, NEW}, 2),
        ({"limit": 2, "include_old": True}, {OLD, WEEK, NEW}, 3),
        ({"include_old": False}, {WEEK, NEW}, 2),
        ({"include_week": False, "include_old": False}, {NEW}, 1),
        ({"include_recent": False, "include_old": False}, {WEEK}, 1),
        ({"include_recent": False, "include_week": False, "include_old": True}, {OLD}, 1),
        ({"include_week": False, "include_old": True}, {OLD, NEW}, 2),
    ],
)
@pytest.mark.usefixtures("aged")
def test_which_tiers_are_read(lane: Lane, asked: dict[str, Any], found: set[str], tiers: int) -> None:
    answer = ask(lane, **asked)
    assert said(answer) <= found
    assert len(said(answer)) == min(len(found), int(str(asked.get("limit", 10))))
    assert len(answer.tiers) == tiers


@pytest.mark.usefixtures("aged")
def test_hits_that_are_not_good_are_not_enough(lane: Lane) -> None:
    lane.settings = lane.settings.model_copy(update={"good_similarity": 0.9999})
    assert ask(lane, "boats", limit=2).tiers == tuple(Tier)


@pytest.mark.usefixtures("aged")
def test_of_a_small_agent_all_is_read_at_once(lane: Lane) -> None:
    lane.settings = lane.settings.model_copy(update={"tiers_from": 4})
    assert ask(lane, limit=2).tiers == tuple(Tier)


def test_use_makes_fresh(lane: Lane, shard: Shard, aged: dict[str, Receipt]) -> None:
    count_access(shard, lane, aged[OLD])
    assert said(ask(lane, include_old=False)) == {OLD, WEEK, NEW}
    assert said(ask(lane, include_week=False, include_old=False)) == {OLD, NEW}
    assert said(ask(lane, include_recent=False, include_week=True, include_old=False)) == {WEEK}


def test_use_that_is_long_ago_counts_as_little_as_age(
    lane: Lane, settings: Settings, shard: Shard, aged: dict[str, Receipt]
) -> None:
    count_access(shard, lane, aged[OLD])
    age(settings, shard, 48)
    assert said(ask(lane, include_recent=False, include_old=False)) == {OLD, WEEK, NEW}
    age(settings, shard, 24 * 7)
    assert said(ask(lane, include_old=False)) == set()


@pytest.mark.usefixtures("aged")
def test_filters_hold_in_every_tier(lane: Lane) -> None:
    remembered(lane, item("tea, tagged", tags=["t"]))
    assert said(ask(lane, tags=["t"], include_old=False)) == {"tea, tagged"}
    assert said(ask(lane, tags=["t"], include_recent=False)) == set()


@pytest.mark.usefixtures("aged")
def test_what_expired_or_was_superseded_is_in_no_tier(lane: Lane, aged: dict[str, Receipt]) -> None:
    remembered(lane, item("newer tea", supersedes=aged[WEEK].id))
    remembered(lane, item("tea that is over", expires_at=datetime.now(UTC) - timedelta(seconds=1)))
    assert said(ask(lane, include_old=False)) == {NEW, "newer tea"}


def test_nothing_at_all_is_no_question() -> None:
    with pytest.raises(InvalidInput, match="include"):
        parse(
            RecallRequest,
            {"agent": "ada", "query": "x", "include_recent": False, "include_week": False, "include_old": False},
        )


def test_moments_are_noted_and_let_go(lane: Lane, settings: Settings, shard: Shard) -> None:
    remembered(lane, item("one"))
    assert moments(lane, Slice(60.0)) == "4 shards"
    (last,) = kept.numbers_at(shard, [0.0])
    assert last > 0
    assert kept.numbers_at(shard, [3600.0, 0.0]) == [0, last]
    with sql(settings, shard.node.name) as connection:
        connection.execute(f"UPDATE {shard.schema}.moments SET at = at - interval '61 days'")
    moments(lane, Slice(60.0))
    assert kept.numbers_at(shard, [3600.0]) == [0]


def test_resonance_is_what_the_contract_says(
    lane: Lane, settings: Settings, shard: Shard, aged: dict[str, Receipt]
) -> None:
    def use(name: str) -> tuple[object, ...]:
        found = memories.use(shard, "acme", "ada", aged[name].id)
        assert found is not None
        return found.access_count, found.resonance, found.tier

    assert use(NEW) == (0, pytest.approx(BORN, abs=1e-3), Tier.HOT)
    assert use(WEEK) == (0, pytest.approx(decayed(BORN, 48), abs=1e-3), Tier.WARM)
    assert use(OLD) == (0, pytest.approx(decayed(BORN, 12 * 24), abs=1e-3), Tier.COLD)
    count_access(shard, lane, aged[OLD], 3)
    after = lifted(decayed(BORN, 12 * 24), 3)
    assert use(OLD) == (3, pytest.approx(after, abs=1e-3), Tier.HOT)
    age(settings, shard, 30)
    count_access(shard, lane, aged[OLD])
    assert use(OLD) == (4, pytest.approx(lifted(decayed(after, 30), 1), abs=1e-3), Tier.HOT)


def test_a_tier_ends_where_it_says() -> None:
    now = datetime(2026, 1, 8, tzinfo=UTC)
    assert tier_of(now - timedelta(hours=24), now) is Tier.HOT
    assert tier_of(now - timedelta(hours=24, seconds=1), now) is Tier.WARM
    assert tier_of(now - timedelta(days=7), now) is Tier.WARM
    assert tier_of(now - timedelta(days=7, seconds=1), now) is Tier.COLD
