"""Optimize: a large agent gets an index of its own, and recall stays right."""

from collections.abc import Callable

import pytest

from memlane.config.settings import Settings
from memlane.contract import RecallRequest
from memlane.contract.parsing import parse
from memlane.storage import agents, jobs, upkeep
from memlane.storage.jobs import Kind
from memlane.tasks import forget, optimize
from memlane.tasks.lane import Lane
from tests.support import MakeSettings, count_rows, drain_all, eventually, item, recalled, remembered, sql


@pytest.fixture
def small(make_settings: MakeSettings, make_lane: Callable[[Settings], Lane]) -> Lane:
    """A lane where 200 vectors are many."""
    return make_lane(make_settings(promote_at=200))


def ask(lane: Lane, query: str, limit: int = 10, **more: object) -> list[str]:
    request = parse(RecallRequest, {"agent": "ada", "query": query, "limit": limit, **more})
    return [hit.memory.content for hit in recalled(lane, "acme", request)]


def test_a_large_agent_is_promoted_and_found_as_before(small: Lane) -> None:
    texts = [f"topic {n % 40} word {n * 7 % 90} number {n}" for n in range(300)]
    remembered(small, *(item(text) for text in texts), item("of bob", agent="bob"))
    before = {q: ask(small, q) for q in ("topic 3 word 21", "topic 17", "number 250")}
    assert optimize.request(small, "acme", "ada") is not None
    drain_all(small, Kind.OPTIMIZE)
    shard = small.cluster.shard(small.cluster.shard_of("acme", "ada"))
    agent = agents.find(shard, "acme", "ada", small.model.name)
    assert agent is not None
    assert agent.indexed_upto > 0
    for query, expected in before.items():
        assert len(set(ask(small, query)) & set(expected)) >= 9
    remembered(small, item("a fresh memory about a lighthouse"))
    assert ask(small, "lighthouse")[0] == "a fresh memory about a lighthouse"
    assert ask(small, "topic", kinds=["nothing"]) == []


def test_the_index_is_used_for_that_agent_alone(small: Lane) -> None:
    remembered(small, *(item(f"memory {n}") for n in range(250)))
    optimize.request(small, "acme", "ada")
    drain_all(small, Kind.OPTIMIZE)
    shard = small.cluster.shard(small.cluster.shard_of("acme", "ada"))
    with sql(small.settings, shard.node.name) as connection:
        rows = connection.execute(
            "SELECT indexdef FROM pg_indexes WHERE schemaname = %s AND indexdef LIKE '%%hnsw%%'", (shard.schema,)
        ).fetchall()
    ((definition,),) = rows
    assert "WHERE ((agent = 1) AND (number <= 250))" in definition
    remembered(small, item("memory of bob", agent="bob"))

    def scans() -> int:
        with sql(small.settings, shard.node.name) as connection:
            connection.execute("SELECT pg_stat_force_next_flush()")
            found = connection.execute(
                "SELECT sum(idx_scan) FROM pg_stat_user_indexes WHERE schemaname = %s AND indexrelname LIKE %s",
                (shard.schema, r"%\_1\_250"),
            ).fetchone()
        assert found is not None
        return int(found[0])

    assert scans() == 0
    assert len(ask(small, "memory 7")) == 10
    eventually(lambda: scans() == 1)


def test_a_long_tail_has_the_index_built_again(small: Lane) -> None:
    remembered(small, *(item(f"memory {n}") for n in range(250)))
    shard = small.cluster.shard(small.cluster.shard_of("acme", "ada"))
    assert optimize.optimize_shard(small, shard, None) == 1
    first = upkeep.promotion(shard, 1, small.model.name)
    assert first is not None
    remembered(small, *(item(f"few more {n}") for n in range(20)))
    assert optimize.optimize_shard(small, shard, None) == 0
    remembered(small, *(item(f"many more {n}") for n in range(150)))
    assert optimize.optimize_shard(small, shard, None) == 1
    second = upkeep.promotion(shard, 1, small.model.name)
    assert second is not None
    assert second.upto > first.upto
    with sql(small.settings, shard.node.name) as connection:
        rows = connection.execute("SELECT 1 FROM pg_indexes WHERE indexname = %s", (first.index_name,)).fetchall()
    assert rows == []


def test_an_index_of_which_much_is_gone_is_built_again_beside_the_old_one(small: Lane) -> None:
    remembered(small, *(item(f"memory {n}") for n in range(400)))
    shard = small.cluster.shard(small.cluster.shard_of("acme", "ada"))
    assert optimize.optimize_shard(small, shard, None) == 1
    for left in (280, 205):
        with sql(small.settings, shard.node.name) as connection:
            connection.execute(
                f"DELETE FROM {shard.schema}.{small.table} WHERE number < (SELECT max(number) FROM"
                f" {shard.schema}.{small.table}) AND number NOT IN (SELECT number FROM {shard.schema}.{small.table}"
                f" ORDER BY number DESC LIMIT {left})".encode()
            )
        assert optimize.optimize_shard(small, shard, None) == 1
        assert optimize.optimize_shard(small, shard, None) == 0
        found = upkeep.promotion(shard, 1, small.model.name)
        assert found is not None
        assert found.vectors == left
        with sql(small.settings, shard.node.name) as connection:
            names = connection.execute(
                "SELECT indexname FROM pg_indexes WHERE schemaname = %s AND indexdef LIKE '%%hnsw%%'", (shard.schema,)
            ).fetchall()
        assert names == [(found.index_name,)]


def test_a_small_agent_is_left_alone(small: Lane) -> None:
    remembered(small, item())
    shard = small.cluster.shard(small.cluster.shard_of("acme", "ada"))
    assert optimize.optimize_shard(small, shard, {1}) == 0


def test_what_a_broken_build_left_is_dropped(small: Lane) -> None:
    remembered(small, item())
    shard = small.cluster.shard(small.cluster.shard_of("acme", "ada"))
    with sql(small.settings, shard.node.name) as connection:
        connection.execute(f"CREATE INDEX broken ON {shard.schema}.{small.table} (memory)".encode())
        connection.execute(
            "UPDATE pg_index SET indisvalid = false WHERE indexrelid = %s::regclass", (f"{shard.schema}.broken",)
        )
    assert upkeep.drop_left_indexes(shard) == ["broken"]
    assert upkeep.drop_left_indexes(shard) == []


def test_one_at_a_time(small: Lane) -> None:
    remembered(small, item())
    shard = small.cluster.shard(small.cluster.shard_of("acme", "ada"))
    optimize.request(small, "acme", "ada")
    with upkeep.alone(shard) as mine:
        assert mine
        with upkeep.alone(shard) as other:
            assert not other
        drain_all(small, Kind.OPTIMIZE)
        assert count_rows(small.settings, small.cluster, "jobs", "kind = 'optimize' AND not_before > now()") == 1


def test_asked_twice_it_is_done_once(small: Lane) -> None:
    remembered(small, item())
    assert optimize.request(small, "acme", "ada") == optimize.request(small, "acme", "ada")
    assert optimize.request(small, "acme", "nobody") is None
    number = small.cluster.shard_of("acme", "ada")
    assert optimize.request_shard(small, number) == optimize.request_shard(small, number)
    assert count_rows(small.settings, small.cluster, "jobs") == 2
    drain_all(small, Kind.OPTIMIZE)
    assert count_rows(small.settings, small.cluster, "jobs") == 0


def test_a_promoted_agent_can_be_forgotten(small: Lane) -> None:
    remembered(small, *(item(f"memory {n}") for n in range(220)))
    optimize.request(small, "acme", "ada")
    drain_all(small, Kind.OPTIMIZE)
    forget.forget_agent(small, "acme", "ada")
    assert ask(small, "memory") == []
    drain_all(small, Kind.FORGET)
    assert count_rows(small.settings, small.cluster, small.table) == 0
    assert jobs.backlog(small.cluster.shard(small.cluster.shard_of("acme", "ada"))) == []
