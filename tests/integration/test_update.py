"""Updates beside everything else: drains under way, forgetting, promotion; and what is left in the tables."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from memlane.beat.duty import Slice
from memlane.beat.expire import expire
from memlane.config.settings import Settings
from memlane.contract import Event, Filters, Memory, MemoryUpdate, PageRequest, RecallRequest
from memlane.errors import Conflict, Unavailable
from memlane.storage import jobs, memories
from memlane.storage.cluster import Shard
from memlane.storage.jobs import Kind, Terms
from memlane.tasks import forget
from memlane.tasks.batch_embed import embed_memories
from memlane.tasks.lane import Lane
from memlane.tasks.optimize import promote
from memlane.tasks.remember import remember
from memlane.tasks.update import update_memory
from memlane.workers import duties
from tests.support import accepted, count_rows, drain_all, embedded, item, ledger_of, recalled, remembered, sql

TERMS = Terms("test", 30.0, 100)


def update(lane: Lane, id_: UUID, **fields: object) -> Memory | None:
    return update_memory(lane, "acme", "ada", id_, MemoryUpdate.model_validate(fields))


def listed(shard: Shard) -> list[str]:
    """What the agent's list shows."""
    return [memory.content for _, memory in memories.page(shard, "acme", PageRequest(agent="ada"))[0]]


def vectors_of(lane: Lane, shard: Shard, id_: UUID) -> list[tuple[float, ...]]:
    """The vectors of a memory as they are in the table."""
    with sql(lane.settings, shard.node.name) as connection:
        rows = connection.execute(
            f"SELECT v.embedding::text FROM {shard.schema}.{lane.table} v "
            f"JOIN {shard.schema}.ids i ON i.agent = v.agent AND i.number = v.memory WHERE i.id = %s".encode(),
            [id_],
        ).fetchall()
    return [tuple(map(float, text.strip("[]").split(","))) for (text,) in rows]


def test_an_embed_drain_under_way_does_not_bring_the_old_vector(lane: Lane, shard: Shard) -> None:
    (receipt,) = remembered(lane, item("tea"))
    update(lane, receipt.id, content="coffee")
    claim = jobs.claim(shard, Kind.EMBED, TERMS)
    assert claim is not None
    texts = memories.texts(shard, claim)
    assert list(texts.values()) == ["coffee"]
    update(lane, receipt.id, content="water")
    assert not embed_memories(lane, shard, claim).searchable
    assert vectors_of(lane, shard, receipt.id) == []
    drain_all(lane, Kind.EMBED)
    (vector,) = vectors_of(lane, shard, receipt.id)
    expected = embedded(lane, "water")
    assert vector == pytest.approx(tuple(expected), abs=1e-2)
    assert count_rows(lane.settings, lane.cluster, "jobs") == count_rows(lane.settings, lane.cluster, "leases") == 0


def test_what_is_not_stored_or_parked(lane: Lane, shard: Shard) -> None:
    (receipt,) = accepted(lane, item("tea"))
    with pytest.raises(Unavailable, match="not stored yet"):
        update(lane, receipt.id, content="coffee")
    with sql(lane.settings, shard.node.name) as connection:
        connection.execute(f"UPDATE {shard.schema}.jobs SET parked_at = now()".encode())
        connection.execute(f"UPDATE {shard.schema}.ids SET state = 'parked'".encode())
    with pytest.raises(Conflict, match="parked"):
        update(lane, receipt.id, content="coffee")


def test_what_is_stored_is_not_touched_by_its_neighbours(lane: Lane) -> None:
    """Importance is kept as it is, to the last digit; 1 and true are two things."""
    (receipt,) = remembered(lane, item("tea", importance=1e-7, metadata={"a": 1, "b": 0}))
    first = update(lane, receipt.id, tags=["x"])
    with sql(lane.settings, lane.cluster.shard(lane.cluster.shard_of("acme", "ada")).node.name) as connection:
        schema = lane.cluster.shard(lane.cluster.shard_of("acme", "ada")).schema
        assert connection.execute(f"SELECT importance::text FROM {schema}.memories".encode()).fetchone() == ("1e-07",)
    changed = update(lane, receipt.id, metadata={"a": True, "b": False})
    assert first is not None
    assert changed is not None
    assert changed.metadata["a"] is True
    exact = update(lane, receipt.id, importance=0.12345678)
    assert update(lane, receipt.id, importance=0.12345678) == exact


def test_many_at_once_leave_one_vector_and_every_version(lane: Lane, shard: Shard) -> None:
    (receipt,) = remembered(lane, item("tea"))

    def change(number: int) -> None:
        while True:
            try:
                update(lane, receipt.id, content=f"cup {number}", tags=[str(number)])
            except Unavailable:
                continue
            return

    with ThreadPoolExecutor(6) as pool:
        done = [pool.submit(change, number) for number in range(24)]
        for _ in range(5):
            drain_all(lane, Kind.EMBED)
        for one in done:
            one.result()
    drain_all(lane, Kind.EMBED)
    memory = memories.by_id(shard, "acme", "ada", receipt.id)
    assert memory is not None
    assert memory.version == 25
    assert (memory.content,) == tuple(f"cup {tag}" for tag in memory.tags)
    assert count_rows(lane.settings, lane.cluster, "versions") == 24
    (vector,) = vectors_of(lane, shard, receipt.id)
    assert vector == pytest.approx(tuple(embedded(lane, memory.content)), abs=1e-2)


def test_counts_of_an_agent_stay_right(lane: Lane, shard: Shard) -> None:
    first, second = remembered(
        lane, item("one two three four"), item("five", expires_at=datetime(2100, 1, 1, tzinfo=UTC))
    )
    update(lane, first.id, content="six", supersedes=second.id)
    forget.forget_memory(lane, "acme", "ada", second.id)
    with sql(lane.settings, shard.node.name) as connection:
        row = connection.execute(f"SELECT memories, words, conditional FROM {shard.schema}.agents".encode()).fetchone()
        words = connection.execute(f"SELECT sum(length(words)) FROM {shard.schema}.memories".encode()).fetchone()
    assert row is not None
    assert words is not None
    assert row == (1, words[0], 1)  # conditional may be too large, never too small


def test_updates_and_forgetting_at_once_never_deadlock(lane: Lane) -> None:
    receipts = remembered(lane, *(item(f"memory {n}") for n in range(60)))

    def change(id_: UUID) -> None:
        for n in range(3):
            try:
                update(lane, id_, content=f"other {n}")
            except Unavailable:
                continue

    with ThreadPoolExecutor(6) as pool:
        for receipt in receipts:
            pool.submit(change, receipt.id)
        gone = [pool.submit(forget.forget_memory, lane, "acme", "ada", receipt.id) for receipt in receipts[::2]]
        drain_all(lane, Kind.EMBED)
        assert all(one.result() for one in gone)
    drain_all(lane)
    assert count_rows(lane.settings, lane.cluster, "memories") == 30
    assert count_rows(lane.settings, lane.cluster, lane.table) == 30
    assert count_rows(lane.settings, lane.cluster, "ids", "state = 'forgotten'") == 30
    assert ledger_of(lane.cluster, "acme").balanced


def test_forgetting_takes_the_versions_and_their_cached_vectors(lane: Lane) -> None:
    (receipt,) = remembered(lane, item("a secret", speaker="Ben"))
    update(lane, receipt.id, content="another secret")
    drain_all(lane, Kind.EMBED)
    assert count_rows(lane.settings, lane.cluster, "embedding_cache") == 2
    assert forget.forget_memory(lane, "acme", "ada", receipt.id)
    for table in ("versions", "memories", lane.table, "embedding_cache", "jobs"):
        assert count_rows(lane.settings, lane.cluster, table) == 0, table


def test_forgetting_an_agent_takes_the_versions(lane: Lane) -> None:
    (receipt,) = remembered(lane, item("a secret"))
    update(lane, receipt.id, content="another secret")
    forget.forget_agent(lane, "acme", "ada")
    drain_all(lane)
    for table in ("versions", "memories", lane.table, "embedding_cache", "jobs"):
        assert count_rows(lane.settings, lane.cluster, table) == 0, table


def test_what_has_expired_is_removed_once_per_slot(lane: Lane) -> None:
    over = datetime.now(UTC) - timedelta(seconds=1)
    remembered(lane, item("gone", expires_at=over), item("stays"), item("gone too", "bob", expires_at=over))
    remembered(lane, item("of another", expires_at=over), tenant="rival")
    duties.run_once(lane, "one", "expire")
    duties.run_once(lane, "two", "expire")
    assert count_rows(lane.settings, lane.cluster, "memories") == 1
    assert count_rows(lane.settings, lane.cluster, "ids", "state = 'forgotten'") == 3
    assert count_rows(lane.settings, lane.cluster, "embedding_cache") == 1
    balance = ledger_of(lane.cluster, "acme")
    assert balance.balanced
    assert balance.events[Event.EXPIRED] == 2
    assert ledger_of(lane.cluster, "rival").events[Event.EXPIRED] == 1
    with sql(lane.settings) as control:
        rows = control.execute("SELECT holder FROM control.ticks WHERE name = 'expire'").fetchall()
    assert rows == [("one",)]


def test_a_chain_that_is_removed_at_once_leaves_its_end(lane: Lane, shard: Shard) -> None:
    """Three links in one slice: the last one takes the place of the first."""
    (one,) = remembered(lane, item("one"))
    over = datetime.now(UTC) - timedelta(seconds=1)
    (two,) = remembered(lane, item("two", supersedes=one.id, expires_at=over))
    (three,) = remembered(lane, item("three", supersedes=two.id, expires_at=over))
    (four,) = remembered(lane, item("four", supersedes=three.id))
    expire(lane, Slice(60.0))
    assert lane.measures.now().counts["memlane_expired_total"] == 2
    memory = memories.by_id(shard, "acme", "ada", four.id)
    assert memory is not None
    assert memory.supersedes == one.id
    assert listed(shard) == ["four"]


def test_a_circle_of_successors_ends(lane: Lane, shard: Shard) -> None:
    """Updates refuse to make one; ids that were made before what they name can."""
    first, second, third = uuid4(), uuid4(), uuid4()
    remembered(lane, item("one", id=first, supersedes=second), item("two", id=second, supersedes=third))
    with pytest.raises(Conflict, match="each other's place"):
        update(lane, second, supersedes=first)
    with pytest.raises(Conflict):
        update(lane, first, supersedes=first)
    assert listed(shard) == ["one"]
    remembered(lane, item("three", id=third, supersedes=first))
    assert listed(shard) == []
    assert update(lane, first, content="one more") is not None
    forget.forget_matching(lane, "acme", "ada", Filters(kinds=("fact",)), dry_run=False)
    drain_all(lane, Kind.FORGET)
    assert count_rows(lane.settings, lane.cluster, "memories") == 0


def test_forgetting_by_filter_takes_what_is_not_stored_yet(lane: Lane, shard: Shard) -> None:
    remembered(lane, item("stored", tags=["x"], metadata={"a": 1}), item("stays", tags=["x"]))
    accepted(lane, item("open", tags=["x"], metadata={"a": 1, "b": 2}), item("open and stays", metadata={"a": 2}))
    claim = jobs.claim(shard, Kind.REMEMBER, TERMS)
    assert claim is not None
    wanted = Filters(tags=("x",), metadata={"a": 1})
    asked = forget.forget_matching(lane, "acme", "ada", wanted, dry_run=False)
    assert asked is not None
    assert asked.matched == 2
    accepted(lane, item("later", tags=["x"], metadata={"a": 1}))
    drain_all(lane, Kind.FORGET)
    assert remember(lane, shard, claim).stored == 1
    drain_all(lane)
    assert set(listed(shard)) == {"stays", "open and stays", "later"}
    assert ledger_of(lane.cluster, "acme").balanced


def test_more_than_a_slice_is_forgotten_by_filter(lane: Lane) -> None:
    remembered(lane, *(item(f"memory {n}", tags=["x"] if n % 10 else []) for n in range(1300)))
    asked = forget.forget_matching(lane, "acme", "ada", Filters(tags=("x",)), dry_run=False)
    assert asked is not None
    assert asked.matched == 1170
    drain_all(lane, Kind.FORGET)
    assert count_rows(lane.settings, lane.cluster, "memories") == 130


def test_an_agent_with_an_index_hides_what_was_superseded(
    settings: Settings, make_lane: Callable[[Settings], Lane], shard: Shard
) -> None:
    small = make_lane(settings.model_copy(update={"promote_at": 50}))
    receipts = remembered(small, *(item(f"note {n} about tea") for n in range(80)))
    agent = small.numbers.of(shard, "acme", ["ada"], register=False)["ada"]
    assert promote(small, shard, agent)
    remembered(small, item("the last word about tea", supersedes=receipts[0].id))
    found = recalled(small, "acme", RecallRequest(agent="ada", query="note 0 about tea", limit=100))
    contents = {hit.memory.content for hit in found.hits}
    assert "note 0 about tea" not in contents
    assert "the last word about tea" in contents
    assert len(contents) == 80
