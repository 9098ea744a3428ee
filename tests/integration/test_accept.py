"""Accept: durable at once, and each identity once."""

from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import pytest

from memlane.config.settings import Settings
from memlane.contract import Event, Receipt, State, key_id
from memlane.errors import Conflict, InvalidInput, NodeDown, ShardMoved
from memlane.storage import ids, ledger
from memlane.storage.cluster import Shard
from memlane.storage.jobs import Kind
from memlane.tasks import accept, forget
from memlane.tasks.lane import Lane
from tests.support import Recorder, accepted, count_rows, drain_all, item, ledger_of, remembered, sql


def test_a_receipt_means_that_all_rows_are_there(lane: Lane, settings: Settings) -> None:
    (receipt,) = accepted(lane, item(key="k"))
    assert receipt == Receipt(key_id("acme", "ada", "k"), "ada", State.ACCEPTED)
    assert count_rows(settings, lane.cluster, "ids", f"id = '{receipt.id}' AND state = 'accepted'") == 1
    assert count_rows(settings, lane.cluster, "jobs", f"id = '{receipt.id}' AND kind = 'remember'") == 1
    assert ledger_of(lane.cluster, "acme").events[Event.ACCEPTED] == 1


def test_somebody_is_woken_for_what_is_new_only(lane: Lane, recorder: Recorder, shard: Shard) -> None:
    accepted(lane, item(key="k"))
    assert recorder.take() == [(Kind.REMEMBER, shard.number)]
    accepted(lane, item(key="k"))
    assert recorder.take() == []


def test_the_same_again_is_a_duplicate_with_the_state_of_the_first(lane: Lane) -> None:
    (first,) = accepted(lane, item(key="k"))
    (second,) = accepted(lane, item(key="k"))
    assert (second.id, second.state, second.first) == (first.id, State.DUPLICATE, State.ACCEPTED)
    drain_all(lane)
    (third,) = accepted(lane, item(key="k"))
    assert third.first is State.SEARCHABLE
    events = ledger_of(lane.cluster, "acme").events
    assert (events[Event.ACCEPTED], events[Event.DUPLICATE]) == (1, 2)


def test_other_content_under_the_same_key_is_a_conflict_that_names_the_first(lane: Lane) -> None:
    (first,) = accepted(lane, item("tea", key="k"))
    (result,) = accept.accept(lane, "acme", [item("coffee", key="k")])
    assert isinstance(result, Conflict)
    assert result.first == first.id
    assert "'k'" in str(result)
    assert ledger_of(lane.cluster, "acme").events[Event.REJECTED] == 1


def test_the_same_key_of_another_agent_or_tenant_is_another_memory(lane: Lane) -> None:
    one, two = accepted(lane, item(key="k"), item(key="k", agent="bob"))
    (three,) = accepted(lane, item("other", key="k"), tenant="rival")
    assert len({one.id, two.id, three.id}) == 3


def test_twice_in_one_batch(lane: Lane) -> None:
    first, second, third = accept.accept(lane, "acme", [item(key="k"), item(key="k"), item("other", key="k")])
    assert isinstance(first, Receipt)
    assert first.state is State.ACCEPTED
    assert isinstance(second, Receipt)
    assert second.state is State.DUPLICATE
    assert isinstance(third, Conflict)


def test_a_batch_over_all_shards_keeps_its_order(lane: Lane) -> None:
    items = [item(f"memory {n}", agent=f"agent-{n}") for n in range(40)]
    assert [receipt.agent for receipt in accepted(lane, *items)] == [f"agent-{n}" for n in range(40)]


def test_numbers_follow_the_order_of_a_batch(lane: Lane, settings: Settings, shard: Shard) -> None:
    receipts = accepted(lane, *(item(f"memory {n}", key=f"k{n}", thread="t") for n in range(20)))
    with sql(settings, shard.node.name) as connection:
        rows = connection.execute(f"SELECT id, position FROM {shard.schema}.jobs ORDER BY number".encode()).fetchall()
    assert rows == [(receipt.id, place) for place, receipt in enumerate(receipts, 1)]
    accepted(lane, item("one more", thread="t"), item("of another", thread="u"), item("of none"))
    with sql(settings, shard.node.name) as connection:
        rows = connection.execute(f"SELECT position FROM {shard.schema}.jobs ORDER BY number".encode()).fetchall()
    assert [position for (position,) in rows[20:]] == [21, 1, None]


def test_the_same_from_eight_at_once_is_accepted_once(lane: Lane, settings: Settings) -> None:
    items = [item(f"memory {n}", key=f"k{n}") for n in range(30)]
    with ThreadPoolExecutor(6) as pool:
        runs = list(pool.map(lambda order: accept.accept(lane, "acme", items[::order]), [1, -1] * 4))
    states = [result.state for run in runs for result in run if isinstance(result, Receipt)]
    assert len(states) == 240
    assert states.count(State.ACCEPTED) == 30
    assert count_rows(settings, lane.cluster, "jobs") == 30
    assert ledger_of(lane.cluster, "acme").balanced


def test_atomic_is_all_or_none(lane: Lane, settings: Settings) -> None:
    accepted(lane, item("tea", key="taken"))
    with pytest.raises(Conflict):
        accept.accept(lane, "acme", [item("new", key="new"), item("coffee", key="taken")], atomic=True)
    assert count_rows(settings, lane.cluster, "ids") == 1
    results = accept.accept(lane, "acme", [item("new", key="new"), item("tea", key="taken")], atomic=True)
    assert [result.state for result in results if isinstance(result, Receipt)] == [State.ACCEPTED, State.DUPLICATE]


def test_atomic_needs_one_agent(lane: Lane) -> None:
    with pytest.raises(InvalidInput, match="atomic"):
        accept.accept(lane, "acme", [item(), item(agent="bob")], atomic=True)


def test_what_was_forgotten_stays_forgotten(lane: Lane) -> None:
    (receipt,) = remembered(lane, item(key="k"))
    forget.forget_memory(lane, "acme", "ada", receipt.id)
    (again,) = accepted(lane, item(key="k"))
    assert again.state is State.FORGOTTEN
    drain_all(lane)
    assert ids.states(*_key(lane, receipt.id)) == {(1, receipt.id): (State.FORGOTTEN, None)}


def _key(lane: Lane, id_: UUID) -> tuple[Shard, list[tuple[int, UUID]]]:
    return lane.cluster.shard(lane.cluster.shard_of("acme", "ada")), [(1, id_)]


def test_a_stale_epoch_is_refused_and_the_map_read_again(lane: Lane, settings: Settings, shard: Shard) -> None:
    accepted(lane, item("before"))
    with sql(settings, shard.node.name) as connection:
        connection.execute(f"UPDATE {shard.schema}.meta SET epoch = 2".encode())
    with pytest.raises(ShardMoved):
        ledger.note(shard, "acme", Event.REJECTED, 1)
    with sql(settings) as connection:
        connection.execute(f"UPDATE control.shards SET epoch = 2 WHERE shard = {shard.number}".encode())
    accepted(lane, item("after"))
    assert count_rows(settings, lane.cluster, "jobs") == 2


def test_a_shard_that_is_moving_takes_nothing(lane: Lane, settings: Settings, shard: Shard) -> None:
    with sql(settings, shard.node.name) as connection:
        connection.execute(f"UPDATE {shard.schema}.meta SET state = 'moving'".encode())
    (result,) = accept.accept(lane, "acme", [item()])
    assert isinstance(result, ShardMoved)
    assert result.retryable
    assert count_rows(settings, lane.cluster, "jobs") == 0


def test_a_node_that_is_down_refuses_its_items_only(lane: Lane, settings: Settings) -> None:
    lane.cluster.refresh()
    down = lane.cluster.nodes["node-2"]
    down.close()
    items = [item(f"memory {n}", agent=f"agent-{n}") for n in range(20)]
    results = accept.accept(lane, "acme", items)
    kinds = {type(result) for result in results}
    assert kinds == {Receipt, NodeDown}
    good = [result for result in results if isinstance(result, Receipt)]
    assert count_rows(settings, lane.cluster, "jobs") == len(good)
