"""The producers' door: done, or kept with the reason; the same message twice is one memory."""

import json
from typing import Any

import pytest

from memlane.config.settings import Settings
from memlane.contract import Event
from memlane.errors import NotMigrated, Unavailable
from memlane.storage import strays
from memlane.tasks import producers
from memlane.tasks.lane import Lane
from tests.support import count_rows, drain_all, ledger_of, remembered, sql
from tests.support import item as memory

GOOD: dict[str, Any] = {"tenant": "acme", "agent": "ada", "content": "tea"}


def deliver(lane: Lane, task: str = "memory.remember", message_id: str = "m-1", **message: Any) -> None:
    producers.deliver(lane, task, message, message_id)


def kept(lane: Lane) -> list[tuple[str, str, int]]:
    return [(s.task, s.reason, s.count) for shard in lane.cluster.shards() for s in strays.summary(shard)]


def test_one_and_many(lane: Lane, settings: Settings) -> None:
    deliver(lane, **GOOD)
    deliver(lane, message_id="m-2", tenant="acme", items=[{"agent": f"a{n}", "content": "tea"} for n in range(5)])
    drain_all(lane)
    assert count_rows(settings, lane.cluster, "memories") == 6
    assert kept(lane) == []


def test_the_same_message_again_is_the_same_memory(lane: Lane, settings: Settings) -> None:
    for _ in range(3):
        deliver(lane, **GOOD)
        deliver(
            lane,
            message_id="m-2",
            tenant="acme",
            items=[{"agent": "ada", "content": "a"}, {"agent": "ada", "content": "b"}],
        )
    drain_all(lane)
    assert count_rows(settings, lane.cluster, "memories") == 3
    deliver(lane, message_id="another", **GOOD)
    assert count_rows(settings, lane.cluster, "ids") == 4


@pytest.mark.parametrize(
    ("message", "named"),
    [
        ({**GOOD, "content": ""}, "content"),
        ({**GOOD, "importance": 7}, "importance"),
        ({**GOOD, "surprise": 1}, "surprise"),
        ({"agent": "ada", "content": "tea"}, "tenant"),
        ({**GOOD, "tenant": "No Such Name"}, "tenant"),
        ({**GOOD, "tenant": 7}, "tenant"),
        ({"tenant": "acme", "items": []}, "items"),
        ({"tenant": "acme", "items": "x"}, "items"),
        ({"tenant": "acme"}, "agent"),
        ({**GOOD, "positional": [1]}, "positional"),
    ],
)
def test_what_does_not_validate_is_kept_with_the_reason(lane: Lane, message: dict[str, Any], named: str) -> None:
    deliver(lane, **message)
    ((task, reason, count),) = kept(lane)
    assert (task, count) == ("memory.remember", 1)
    assert named in reason


def test_what_jsonb_cannot_hold_is_kept_too(lane: Lane, settings: Settings) -> None:
    deliver(lane, **{**GOOD, "content": "nul \x00 and \ud800"})
    ((_, reason, _),) = kept(lane)
    assert "NUL" in reason or "surrogate" in reason
    assert count_rows(settings, lane.cluster, "strays", r"payload LIKE '%%\\u0000%%'") == 1


def test_a_bad_item_does_not_spoil_the_others(lane: Lane, settings: Settings) -> None:
    deliver(lane, tenant="acme", items=[{"agent": "ada", "content": "good"}, {"agent": "ada", "content": ""}])
    assert count_rows(settings, lane.cluster, "jobs") == 1
    assert len(kept(lane)) == 1
    balance = ledger_of(lane.cluster, "acme")
    assert (balance.events[Event.ACCEPTED], balance.events[Event.REJECTED]) == (1, 1)


def test_a_conflict_is_kept_for_an_operator(lane: Lane, settings: Settings) -> None:
    deliver(lane, **{**GOOD, "key": "k"})
    deliver(lane, message_id="m-2", **{**GOOD, "key": "k", "content": "other"})
    ((_, reason, _),) = kept(lane)
    assert "holds other content" in reason
    assert count_rows(settings, lane.cluster, "strays", "target IS NULL") == 1


def test_a_shard_that_is_down_has_its_messages_kept_elsewhere(lane: Lane, settings: Settings) -> None:
    agent = next(
        f"a{n}" for n in range(100) if lane.cluster.shard(lane.cluster.shard_of("acme", f"a{n}")).node.name == "node-2"
    )
    lane.cluster.nodes["node-2"].close()
    deliver(lane, **{**GOOD, "agent": agent})
    with sql(settings) as connection:
        schemas = [s.schema for s in lane.cluster.shards() if s.node.name == "node-1"]
        rows = [
            row
            for schema in schemas
            for row in connection.execute(f"SELECT target, payload FROM {schema}.strays".encode()).fetchall()
        ]
    ((target, payload),) = rows
    assert target == lane.cluster.shard_of("acme", agent)
    assert '"id"' in payload


def test_with_every_shard_down_the_message_stays_in_its_queue(lane: Lane) -> None:
    lane.cluster.refresh()
    for node in lane.cluster.nodes.values():
        node.close()
    with pytest.raises(Unavailable):
        deliver(lane, **GOOD)


def test_a_message_that_breaks_its_handling_is_kept(
    lane: Lane, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("memlane.tasks.accept.accept", lambda *_: 1 / 0)
    deliver(lane, **GOOD)
    assert kept(lane) == [("memory.remember", "ZeroDivisionError in memory.remember", 1)]
    assert count_rows(settings, lane.cluster, "strays", "payload LIKE '%%tea%%'") == 1


def test_what_an_operator_has_to_mend_first_leaves_the_message_in_its_queue(
    lane: Lane, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unmigrated(*_: object) -> None:
        raise NotMigrated("run `memlane migrate`")

    monkeypatch.setattr("memlane.tasks.accept.accept", unmigrated)
    with pytest.raises(NotMigrated):
        deliver(lane, **GOOD)
    assert kept(lane) == []


def test_forget_optimize_and_embed(lane: Lane, settings: Settings) -> None:
    first, second = remembered(lane, memory("one", key="k"), memory("two"))
    deliver(lane, "memory.forget", tenant="acme", agent="ada", key="k")
    assert count_rows(settings, lane.cluster, "ids", f"id = '{first.id}' AND state = 'forgotten'") == 1
    deliver(lane, "memory.forget", tenant="acme", agent="ada", id=str(second.id))
    assert count_rows(settings, lane.cluster, "memories") == 0
    remembered(lane, memory("three"))
    deliver(lane, "memory.optimize", tenant="acme", agent="ada")
    deliver(lane, "memory.batch_embed", tenant="acme", texts=["later"])
    deliver(lane, "memory.batch_embed", tenant="acme", agent="ada")
    deliver(lane, "memory.forget", tenant="acme", agent="ada")
    drain_all(lane)
    assert count_rows(settings, lane.cluster, "memories") == count_rows(settings, lane.cluster, "jobs") == 0
    deliver(lane, "memory.forget", tenant="acme", agent="ada", id="nonsense")
    deliver(lane, "memory.forget", tenant="acme", agent="ada", id=str(first.id), key="k")
    deliver(lane, "memory.optimize", tenant="acme")
    deliver(lane, "memory.batch_embed", tenant="acme", texts=["a"], agent="ada")
    assert sum(count for _, _, count in kept(lane)) == 4


@pytest.mark.parametrize("tenant", ["de\x00f", "\ud800", {"x": 1}, "No Such Name"])
def test_a_tenant_that_is_no_name(lane: Lane, tenant: object) -> None:
    producers.deliver(lane, "memory.remember", {**GOOD, "tenant": tenant}, "m-1")
    ((task, reason, count),) = kept(lane)
    assert (task, count) == ("memory.remember", 1)
    assert "tenant" in reason


def test_texts_for_a_shard_that_is_down_wait_for_that_shard(lane: Lane, settings: Settings) -> None:
    lane.cluster.refresh()
    lane.cluster.nodes["node-2"].close()
    texts = [f"text {n}" for n in range(20)]
    deliver(lane, "memory.batch_embed", tenant="acme", texts=texts)
    kept_texts: list[str] = []
    with sql(settings) as connection:
        for shard in (s for s in lane.cluster.shards() if s.node.name == "node-1"):
            rows = connection.execute(f"SELECT target, payload FROM {shard.schema}.strays".encode()).fetchall()
            for target, payload in rows:
                assert lane.cluster.shard(target).node.name == "node-2"
                kept_texts += json.loads(payload)["texts"]
            opened = connection.execute(f"SELECT payload ->> 'content' FROM {shard.schema}.jobs".encode()).fetchall()
            kept_texts += [text for (text,) in opened]
    assert sorted(kept_texts) == sorted(texts)
