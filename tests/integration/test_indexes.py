"""Indexes of large agents: who has one, how they are watched, and that recall and writers never notice."""

from collections.abc import Callable, Iterator
from itertools import count
from threading import Event, Thread
from typing import Any

import psycopg
import pytest

from memlane.beat.duty import Slice
from memlane.beat.optimize import optimize as duty
from memlane.config.settings import Settings
from memlane.contract import RecallRequest
from memlane.contract.health import Component
from memlane.contract.parsing import parse
from memlane.errors import MemlaneError
from memlane.storage import agents, asked, indexes, recall, reports, upkeep
from memlane.storage.cluster import Shard
from memlane.storage.embedding_cache import Cached, Text, keep
from memlane.storage.jobs import Kind
from memlane.storage.wording import cache_key, question_hash
from memlane.tasks import forget, optimize
from memlane.tasks.health.facts import ControlFacts
from memlane.tasks.health.indexes import judge
from memlane.tasks.lane import Lane
from memlane.workers.duties import run_once
from tests.support import MakeSettings, count_rows, drain_all, embedded, eventually, item, recalled, remembered, sql

MANY = 120


@pytest.fixture
def small(make_settings: MakeSettings, make_lane: Callable[[Settings], Lane]) -> Lane:
    """A lane where 100 vectors are many, a shard has one index, and no more of it is looked at than at first."""
    return make_lane(make_settings(promote_at=100, indexes_per_shard=1, tune_ef_search=(40, 200), slice_s=30.0))


@pytest.fixture
def shard(small: Lane) -> Shard:
    return small.cluster.shard(small.cluster.shard_of("acme", "ada"))


def large(lane: Lane, agent: str = "ada", many: int = MANY) -> None:
    remembered(lane, *(item(f"topic {n % 40} word {n * 7 % 90} number {n}", agent) for n in range(many)))


def beside(lane: Lane, agent: str = "ada") -> str:
    """Another agent on the same shard."""
    shard = lane.cluster.shard_of("acme", agent)
    return next(name for n in count() if lane.cluster.shard_of("acme", name := f"agent-{n}") == shard)


def run(lane: Lane) -> str:
    """The duty, and the jobs that it asks for."""
    said = duty(lane, Slice(50.0))
    drain_all(lane, Kind.OPTIMIZE)
    return said


def ask(lane: Lane, shard: Shard, agent: str, times: int = 1) -> None:
    """Log questions to an agent, whose vectors are known."""
    known = agents.find(shard, "acme", agent, lane.model.name)
    assert known is not None
    texts = [f"topic {n % 40} number {n}" for n in range(times)]
    asked.log(shard, [asked.Asked(known.number, 0, question_hash(t), t, None, 1.0, 1.0, 9, False) for t in texts])
    keep(
        lane.cluster,
        lane.model.name,
        {Text("acme", cache_key(question_hash(text))): Cached(embedded(lane, text)) for text in texts},
    )


def promoted(lane: Lane, shard: Shard) -> list[str]:
    return [one.name for one in indexes.known(shard, lane.model.name) if one.upto]


def hnsw(lane: Lane, shard: Shard) -> list[str]:
    """The indexes that Postgres has, valid or not."""
    with sql(lane.settings, shard.node.name) as connection:
        rows = connection.execute(
            "SELECT indexname FROM pg_indexes WHERE schemaname = %s AND indexdef LIKE '%%hnsw%%'", (shard.schema,)
        ).fetchall()
    return [name for (name,) in rows]


def best(lane: Lane, query: str) -> str:
    request = parse(RecallRequest, {"agent": "ada", "query": query, "limit": 3})
    return recalled(lane, "acme", request).hits[0].memory.content


def test_the_duty_promotes_who_has_outgrown_exact_search_and_demotes_who_has_shrunk(small: Lane, shard: Shard) -> None:
    assert run(small) == "nothing was due"
    large(small)
    assert run(small) == "asked for 1"
    assert promoted(small, shard) == ["ada"]
    assert run(small) == "asked by the canary 1"
    (one,) = indexes.known(shard, small.model.name)
    assert (one.recall, one.questions, one.tail, one.vectors) == (1.0, 10, 0, MANY)
    assert indexes.told(small.cluster.control)[shard.number] == indexes.Told(1, one.bytes, 1.0, 0)
    forget.forget_agent(small, "acme", "ada")
    drain_all(small, Kind.FORGET)
    assert "demoted 1" in run(small)
    assert (promoted(small, shard), hnsw(small, shard)) == ([], [])
    assert indexes.told(small.cluster.control)[shard.number] == indexes.Told(0, 0, None, 0)


def test_where_there_is_no_room_the_agent_that_is_asked_more_has_the_index(small: Lane, shard: Shard) -> None:
    other = beside(small)
    large(small)
    assert run(small) == "asked for 1"
    large(small, other)
    assert "left without an index 1" in run(small)
    optimize.request(small, "acme", other)
    drain_all(small, Kind.OPTIMIZE)
    assert promoted(small, shard) == ["ada"]
    ask(small, shard, other, 3)
    assert "demoted 1" in run(small)
    run(small)
    assert promoted(small, shard) == [other]
    (one,) = indexes.known(shard, small.model.name)
    assert (one.asked, one.asked_at is not None) == (3, True)


def test_what_indexes_take_on_a_node_is_bounded(
    make_settings: MakeSettings, make_lane: Callable[[Settings], Lane]
) -> None:
    lane = make_lane(make_settings(promote_at=100, index_mb=0, slice_s=30.0))
    large(lane)
    assert run(lane) == "left without an index 1"
    optimize.request(lane, "acme", "ada")
    drain_all(lane, Kind.OPTIMIZE)
    assert hnsw(lane, lane.cluster.shard(lane.cluster.shard_of("acme", "ada"))) == []


@pytest.fixture
def lingering(small: Lane, shard: Shard) -> Iterator["psycopg.Connection[Any]"]:
    """Somebody who reads vectors in a transaction that does not end: builds wait for that."""
    with psycopg.connect(small.settings.nodes[shard.node.name].get_secret_value()) as connection:
        connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        connection.execute(f"SELECT count(*) FROM {shard.schema}.{small.table}".encode())
        yield connection


def building(lane: Lane, shard: Shard) -> list[int]:
    with sql(lane.settings, shard.node.name) as connection:
        rows = connection.execute(
            "SELECT pid FROM pg_stat_activity WHERE query LIKE 'CREATE INDEX CONCURRENTLY%' AND state = 'active'"
            " AND datname = current_database()"
        ).fetchall()
    return [pid for (pid,) in rows]


def swept(shard: Shard) -> bool:
    """Whether something was dropped; after a session was ended its node is looked at anew first."""
    try:
        return bool(upkeep.drop_left_indexes(shard))
    except MemlaneError:
        return False


def test_a_build_holds_nobody_up_and_what_is_left_of_one_that_was_killed_is_swept(
    small: Lane, shard: Shard, lingering: "psycopg.Connection[Any]"
) -> None:
    large(small)
    failed: list[Exception] = []

    def build() -> None:
        try:
            optimize.optimize_shard(small, shard, None)
        except MemlaneError as error:
            failed.append(error)

    thread = Thread(target=build)
    thread.start()
    eventually(lambda: bool(building(small, shard)))
    remembered(small, item("written beside a build"))
    assert best(small, "written beside a build") == "written beside a build"
    (pid,) = building(small, shard)
    with sql(small.settings, shard.node.name) as connection:
        connection.execute("SELECT pg_terminate_backend(%s)", (pid,))
    thread.join(15)
    assert failed
    assert len(hnsw(small, shard)) == 1
    assert count_rows(small.settings, small.cluster, "promotions") == 0
    lingering.rollback()
    eventually(lambda: swept(shard))
    assert hnsw(small, shard) == []
    run(small)
    assert promoted(small, shard) == ["ada"]


def test_an_index_that_was_built_and_never_served_is_swept(small: Lane, shard: Shard) -> None:
    large(small)
    name = upkeep.build_index(shard, small.table, upkeep.Build(1, 50, 16, 64, 64))
    assert upkeep.drop_left_indexes(shard) == [name]


def test_an_index_that_was_dropped_by_hand_is_built_again(small: Lane, shard: Shard) -> None:
    large(small)
    run(small)
    (name,) = hnsw(small, shard)
    with sql(small.settings, shard.node.name) as connection:
        connection.execute(f"DROP INDEX {shard.schema}.{name}".encode())
    assert best(small, "topic 7 word 49 number 7") == "topic 7 word 49 number 7"
    assert "asked for 1" in run(small)
    assert hnsw(small, shard) == [f"{name}_again"[-63:]]


def test_recall_never_lacks_an_index_while_it_is_built_again(small: Lane, shard: Shard) -> None:
    large(small)
    run(small)
    over, wrong = Event(), list[str]()
    query = (
        f"SELECT count(*) FROM {shard.schema}.promotions p JOIN pg_class c ON c.relname = p.index_name"
        " JOIN pg_index i ON i.indexrelid = c.oid AND i.indisvalid"
    )

    def look() -> None:
        with sql(small.settings, shard.node.name) as connection:
            while not over.is_set():
                if best(small, "topic 7 word 49 number 7") != "topic 7 word 49 number 7":
                    wrong.append("a recall missed the best")
                if connection.execute(query.encode()).fetchone() != (1,):
                    wrong.append("there was no index")

    thread = Thread(target=look)
    thread.start()
    names = set()
    for n in range(4):
        remembered(small, *(item(f"round {n} number {m}") for m in range(50 * (n + 1))))
        assert run(small) in ("asked by the canary 1, asked for 1", "asked for 1")
        names |= set(hnsw(small, shard))
    over.set()
    thread.join(15)
    assert wrong == []
    assert len(names) == 4


def harm(lane: Lane, shard: Shard) -> None:
    """Half of the vectors go and come back behind the index's back."""
    made = upkeep.promotion(shard, 1, lane.model.name)
    assert made is not None
    table, index = f"{shard.schema}.{lane.table}", f"'{shard.schema}.{made.index_name}'::regclass"
    with sql(lane.settings, shard.node.name) as connection:
        for statement in (
            f"CREATE TEMP TABLE half AS SELECT * FROM {table} WHERE number % 2 = 0",
            f"DELETE FROM {table} WHERE number % 2 = 0",
            f"UPDATE pg_index SET indisready = false WHERE indexrelid = {index}",
            f"INSERT INTO {table} OVERRIDING SYSTEM VALUE SELECT * FROM half",
            f"UPDATE pg_index SET indisready = true WHERE indexrelid = {index}",
        ):
            connection.execute(statement.encode())


def health(lane: Lane) -> Component:
    control = lane.cluster.control
    return judge(ControlFacts(reports.now(control), indexes=indexes.told(control)), lane.settings)


def test_an_index_that_misses_is_told_of_built_better_and_given_up_in_the_end(small: Lane, shard: Shard) -> None:
    large(small, many=200)
    run(small)
    ask(small, shard, "ada", 12)
    run(small)
    assert health(small).findings == ()
    shapes = []
    for _ in range(2):
        harm(small, shard)
        assert "build better 1" in run(small)
        (finding,) = health(small).findings
        assert finding.subject == f"indexes of shard {shard.number}"
        run(small)
        assert health(small).findings == ()
        (one,) = indexes.known(shard, small.model.name)
        shapes.append((one.m, one.ef_construction, one.questions))
    assert shapes == [(16, 128, 12), (24, 200, 12)]
    harm(small, shard)
    assert "go exact 1" in run(small)
    assert "demoted 1" in run(small)
    (one,) = indexes.known(shard, small.model.name)
    assert (one.upto, one.exact_until is not None, hnsw(small, shard)) == (0, True, [])
    assert run(small) == "nothing was due"
    optimize.request(small, "acme", "ada")
    drain_all(small, Kind.OPTIMIZE)
    assert hnsw(small, shard) == []


def test_more_of_an_index_is_looked_at_for_the_agent_that_needs_it(
    make_settings: MakeSettings, make_lane: Callable[[Settings], Lane], monkeypatch: pytest.MonkeyPatch
) -> None:
    lane = make_lane(make_settings(promote_at=100, slice_s=30.0))
    shard = lane.cluster.shard(lane.cluster.shard_of("acme", "ada"))
    large(lane)
    run(lane)
    harm(lane, shard)
    assert "look further 1" in run(lane)
    known = agents.find(shard, "acme", "ada", lane.model.name)
    assert known is not None
    assert known.ef_search == 301
    looked: list[int] = []
    real = recall.with_index

    def noting(shard: Shard, statement: bytes, params: Any, ef_search: int) -> Any:
        looked.append(ef_search)
        return real(shard, statement, params, ef_search)

    monkeypatch.setattr(recall, "with_index", noting)
    best(lane, "number 7")
    assert looked == [301]


def test_one_builds_on_a_node_at_a_time(small: Lane) -> None:
    first, second, *_ = (one for one in small.cluster.shards() if one.node is small.cluster.shard(0).node)
    with upkeep.alone(first) as mine, upkeep.alone(second) as other:
        assert (mine, other) == (True, False)
    with upkeep.alone(second) as mine:
        assert mine


def test_the_duty_runs_as_one(small: Lane) -> None:
    run_once(small, "here", "optimize")
    with sql(small.settings) as connection:
        rows = connection.execute("SELECT outcome, detail FROM control.ticks WHERE name = 'optimize'").fetchall()
    assert rows == [("done", "nothing was due")]
