"""Vacuum: what is worn is looked after, one relation at a time, within the slice; indexes too, while recall goes on."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from threading import Event, Thread

import psycopg
import pytest

from memlane.beat.duty import Slice
from memlane.beat.vacuum import vacuum
from memlane.config.settings import Settings
from memlane.contract import RecallRequest
from memlane.contract.parsing import parse
from memlane.contract.upkeep import Action, Ended, Vacuumed
from memlane.storage import upkeep
from memlane.storage import vacuum as kept
from memlane.storage.cluster import Shard
from memlane.tasks import optimize
from memlane.tasks.lane import Lane
from tests.support import MakeSettings, eventually, item, recalled, remembered, sql

LONG_S = 60.0


def done(lane: Lane) -> list[Vacuumed]:
    return kept.done(lane.cluster.control, 100)


def wear(settings: Settings, shard: Shard, table: str = "ledger", rows: int = 1000) -> None:
    """Have a table with so many rows, half of them dead, that autovacuum leaves alone."""
    with sql(settings, shard.node.name) as connection:
        connection.execute(f"ALTER TABLE {shard.schema}.{table} SET (autovacuum_enabled = false)".encode())
        if table == "ledger":
            row = b"'acme', 'stored', n, now()"
        else:
            row = b"'agent', n::text::bytea, 'm', '[1,2]', now()"
            assert table == "embedding_cache"
        columns = b"" if table == "ledger" else b"(tenant, content_hash, model, embedding, created_at)"
        into = f"INSERT INTO {shard.schema}.{table} ".encode() + columns
        connection.execute(into + b" SELECT " + row + f" FROM generate_series(1, {rows}) n".encode())
        connection.execute(f"DELETE FROM {shard.schema}.{table} WHERE ctid < '(5, 0)'".encode())


@contextmanager
def locked(settings: Settings, shard: Shard, table: str) -> Iterator[None]:
    """Somebody holds a table, as a migration would."""
    with sql(settings, shard.node.name) as connection, connection.transaction():
        connection.execute(f"LOCK TABLE {shard.schema}.{table} IN ACCESS EXCLUSIVE MODE".encode())
        yield


def test_only_what_is_over_its_threshold_is_touched_and_the_reason_is_noted(
    lane: Lane, settings: Settings, shard: Shard
) -> None:
    wear(settings, shard)
    came_to = vacuum(lane, Slice(LONG_S))
    (one,) = [run for run in done(lane) if run.shard is not None]
    assert (one.node, one.shard, one.relation) == (shard.node.name, shard.number, "ledger")
    assert (one.action, one.outcome) == (Action.VACUUM, Ended.DONE)
    assert one.why.endswith("rows")
    assert one.dead_before > 0 == one.dead_after
    assert "vacuum" in came_to
    assert lane.measures.now().counts['memlane_vacuumed_total{action="vacuum",outcome="done"}'] >= 1
    assert [run for run in done(lane) if vacuum(lane, Slice(LONG_S)) and run.shard is not None] == [one]


def test_controls_tables_are_looked_after_too(lane: Lane, settings: Settings) -> None:
    with sql(settings) as connection:
        connection.execute(
            "INSERT INTO control.reports (score, report, figures) SELECT 1, '{}', '{}' FROM generate_series(1, 1000)"
        )
    vacuum(lane, Slice(LONG_S))
    assert (None, "reports", Ended.DONE) in [(one.shard, one.relation, one.outcome) for one in done(lane)]


def test_the_slice_stops_what_takes_long_and_the_others_go_first_next_time(
    lane: Lane, settings: Settings, shard: Shard
) -> None:
    wear(settings, shard, rows=2000)
    wear(settings, shard, "embedding_cache")
    with locked(settings, shard, "ledger"):
        vacuum(lane, Slice(2.0))
        stopped = [one for one in done(lane) if one.outcome is Ended.STOPPED]
        assert [one.relation for one in stopped] == ["ledger"]
        vacuum(lane, Slice(3.0))
        order = [one.relation for one in reversed(done(lane)) if one.shard == shard.number]
        assert order[-2:] in (["embedding_cache", "ledger"], ["ledger", "ledger"])
    vacuum(lane, Slice(LONG_S))
    assert kept.stops(lane.cluster.control) == {}


def test_two_at_once_on_a_node_are_one(lane: Lane, settings: Settings, shard: Shard) -> None:
    wear(settings, shard)
    with kept.alone(shard.node) as connection:
        assert connection is not None
        assert "nodes busy 1" in vacuum(lane, Slice(LONG_S))
        assert [one for one in done(lane) if one.shard is not None] == []
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: vacuum(lane, Slice(LONG_S)), range(2)))
    assert len([one for one in done(lane) if one.shard is not None]) == 1


def test_a_node_that_is_down_holds_the_others_up_no_longer(lane: Lane, settings: Settings) -> None:
    for one in lane.cluster.shards():
        wear(settings, one)
    lane.cluster.nodes["node-2"].close()
    assert "nodes skipped 1" in vacuum(lane, Slice(LONG_S))
    assert {one.node for one in done(lane)} == {"node-1"}


@pytest.fixture
def small(make_settings: MakeSettings, make_lane: Callable[[Settings], Lane]) -> Lane:
    """A lane where 200 vectors are many."""
    return make_lane(make_settings(promote_at=200, slice_s=30.0))


@contextmanager
def building(settings: Settings, shard: Shard, table: str) -> Iterator[Callable[[], bool]]:
    """Somebody builds an index, and has to wait for a transaction to end before it can be valid."""
    name = f"{shard.schema}.{table}"
    with sql(settings, shard.node.name) as writer, writer.transaction():
        writer.execute(f"LOCK TABLE {name} IN ROW EXCLUSIVE MODE".encode())

        def build() -> None:
            with sql(settings, shard.node.name) as builder, suppress(psycopg.errors.QueryCanceled):
                builder.execute(f"CREATE INDEX CONCURRENTLY half_built ON {name} (memory)".encode())

        thread = Thread(target=build)
        thread.start()

        def there() -> bool:
            with sql(settings, shard.node.name) as looking:
                found = looking.execute("SELECT to_regclass(%s)", (f"{shard.schema}.half_built",))
                return found.fetchall() != [(None,)]

        eventually(there)
        yield there
    thread.join()


def test_an_index_that_is_being_built_is_not_dropped(small: Lane) -> None:
    shard = small.cluster.shard(0)
    with building(small.settings, shard, small.table) as there:
        assert upkeep.drop_left_indexes(shard) == []
        vacuum(small, Slice(LONG_S))
        assert there()
    assert there()
    assert upkeep.drop_left_indexes(shard) == []


def test_an_index_whose_build_was_cancelled_is_dropped(small: Lane) -> None:
    shard = small.cluster.shard(0)
    with building(small.settings, shard, small.table) as there, sql(small.settings, shard.node.name) as connection:
        connection.execute(
            "SELECT pg_cancel_backend(pid) FROM pg_stat_activity"
            " WHERE query LIKE 'CREATE INDEX CONCURRENTLY half%' AND datname = current_database()"
        )
        eventually(lambda: connection.execute("SELECT 1 FROM pg_stat_progress_create_index").fetchall() == [])
    assert there()
    vacuum(small, Slice(LONG_S))
    assert not there()
    assert [(one.relation, one.action) for one in done(small) if one.action is Action.DROP] == [
        ("half_built", Action.DROP)
    ]


def ask(lane: Lane, query: str) -> list[str]:
    request = parse(RecallRequest, {"agent": "ada", "query": query, "limit": 5})
    return [hit.memory.content for hit in recalled(lane, "acme", request)]


def test_a_bloated_index_is_built_again_while_recall_goes_on_and_finds_the_same(small: Lane) -> None:
    shard = small.cluster.shard(small.cluster.shard_of("acme", "ada"))
    remembered(small, *(item(f"memory number {n}") for n in range(400)))
    assert optimize.optimize_shard(small, shard, None) == 1
    made = upkeep.promotion(shard, 1, small.model.name)
    assert made is not None
    assert made.vectors == 400
    with sql(small.settings, shard.node.name) as connection:
        connection.execute(f"DELETE FROM {shard.schema}.{small.table} WHERE memory % 2 = 0".encode())
    expected = {query: ask(small, query) for query in ("number 7", "number 333")}
    over = Event()
    wrong: list[str] = []

    def go_on() -> None:
        while not over.is_set():
            wrong.extend(query for query, found in expected.items() if ask(small, query) != found)

    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(go_on)
        vacuum(small, Slice(LONG_S))
        over.set()
        asking.result()
    assert wrong == []
    (run,) = [one for one in done(small) if one.action is Action.REINDEX]
    assert (run.relation, run.why, run.outcome) == (made.index_name, "200 of 400 vectors are gone", Ended.DONE)
    assert (run.dead_before, run.dead_after) == (200, 0)
    assert run.bytes_after < run.bytes_before
    after = upkeep.promotion(shard, 1, small.model.name)
    assert after is not None
    assert after.vectors == 200
    vacuum(small, Slice(LONG_S))
    assert len([one for one in done(small) if one.action is Action.REINDEX]) == 1


def test_an_index_that_nobody_counted_is_counted(small: Lane) -> None:
    shard = small.cluster.shard(small.cluster.shard_of("acme", "ada"))
    remembered(small, *(item(f"memory number {n}") for n in range(250)))
    optimize.optimize_shard(small, shard, None)
    with sql(small.settings, shard.node.name) as connection:
        connection.execute(f"UPDATE {shard.schema}.promotions SET vectors = NULL".encode())
    vacuum(small, Slice(LONG_S))
    found = upkeep.promotion(shard, 1, small.model.name)
    assert found is not None
    assert found.vectors == 250


def test_an_index_that_cannot_be_counted_holds_up_nothing_and_is_tried_once_a_day(
    small: Lane, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = small.settings
    monkeypatch.setattr("memlane.beat.vacuum._COUNT_S", 0.2)
    shard = small.cluster.shard(small.cluster.shard_of("acme", "ada"))
    remembered(small, *(item(f"memory number {n}") for n in range(250)))
    optimize.optimize_shard(small, shard, None)
    wear(settings, shard)
    with sql(settings, shard.node.name) as connection:
        connection.execute(f"DELETE FROM {shard.schema}.{small.table} WHERE memory % 2 = 0".encode())
    with locked(settings, shard, small.table):
        came_to = vacuum(small, Slice(LONG_S))
    assert "skipped" not in came_to
    assert ("ledger", Ended.DONE) in [(one.relation, one.outcome) for one in done(small)]

    def reindexed() -> bool:
        vacuum(small, Slice(LONG_S))
        return any(one.action is Action.REINDEX for one in done(small))

    assert not reindexed(), "it was tried today"
    with sql(settings) as control:
        control.execute("UPDATE control.places SET at = at - interval '1 day' WHERE duty = 'vacuum'")
    assert reindexed()


def test_a_reindex_that_is_stopped_leaves_nothing_behind(small: Lane) -> None:
    shard = small.cluster.shard(small.cluster.shard_of("acme", "ada"))
    remembered(small, *(item(f"memory number {n}") for n in range(400)))
    optimize.optimize_shard(small, shard, None)
    with sql(small.settings, shard.node.name) as connection:
        connection.execute(f"DELETE FROM {shard.schema}.{small.table} WHERE memory % 2 = 0".encode())
        with sql(small.settings, shard.node.name) as writer, writer.transaction():
            writer.execute(f"LOCK TABLE {shard.schema}.{small.table} IN ROW EXCLUSIVE MODE".encode())
            vacuum(small, Slice(4.0))
        assert (Action.REINDEX, Ended.STOPPED) in [(one.action, one.outcome) for one in done(small)]
        vacuum(small, Slice(LONG_S))
        left = connection.execute("SELECT indexrelid::regclass::text FROM pg_index WHERE NOT indisvalid").fetchall()
    assert left == []
    assert next(one.outcome for one in done(small) if one.action is Action.REINDEX) is Ended.DONE
