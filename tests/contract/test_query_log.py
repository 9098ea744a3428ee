"""Questions at the gateway: what is logged of them, whose vectors are known, and which patterns are shown."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from memlane import AsyncClient, Client
from memlane.beat.duty import Slice
from memlane.beat.query_patterns import query_patterns
from memlane.client.front import Front
from memlane.config.settings import Settings
from memlane.contract import Pattern
from memlane.errors import NotFound
from memlane.gateway import query_log
from memlane.gateway.query_log import QueryLog
from memlane.storage import tenants
from memlane.storage.jobs import Kind
from memlane.storage.wording import question_hash
from memlane.tasks.lane import Lane
from tests.commands import Run, document
from tests.contract.conftest import serving
from tests.support import MakeSettings, count_rows, drain_all, eventually, sql

Row = dict[str, Any]


def logged(lane: Lane, order: str = "at") -> list[Row]:
    """Everything that was logged, read by the test itself."""
    rows: list[Row] = []
    for shard in lane.cluster.shards():
        with sql(lane.settings, shard.node.name) as connection:
            cursor = connection.execute(
                f"SELECT a.tenant, a.agent AS name, q.* FROM {shard.schema}.queries q"
                f" JOIN {shard.schema}.agents a ON a.number = q.agent".encode()
            )
            assert cursor.description is not None
            names = [column.name for column in cursor.description]
            rows += [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    return sorted(rows, key=lambda row: row[order])


def kept(lane: Lane, settings: Settings) -> int:
    return count_rows(settings, lane.cluster, "embedding_cache")


@pytest.fixture
def asking(gateway: str, tenant_key: str, worker: None) -> Iterator[Client]:
    """A client whose agents know something: ada of tea and coffee, bob of tea."""
    assert worker is None
    with Client(gateway, tenant_key, retries=0) as client:
        for agent, content in (("ada", "she drinks tea"), ("ada", "he drinks coffee"), ("bob", "tea is ready")):
            client.remember(agent, content).wait("searchable")
        yield client


def test_a_recall_is_logged_with_how_it_went(asking: Client, lane: Lane) -> None:
    asking.recall("ada", "Who drinks TEA?")
    eventually(lambda: len(logged(lane)) == 1)
    (row,) = logged(lane)
    assert (row["tenant"], row["name"], row["hits"], row["cached"]) == ("acme", "ada", 2, False)
    assert (row["query"], row["spelt"]) == ("who drinks tea?", "Who drinks TEA?")
    assert bytes(row["query_hash"]) == question_hash("who drinks tea?")
    assert 0 < row["ms"] < 20_000


def test_a_question_that_is_spelt_otherwise_is_the_same(asking: Client, lane: Lane, settings: Settings) -> None:
    before = kept(lane, settings)
    asking.recall("ada", "who drinks tea?")
    eventually(lambda: kept(lane, settings) == before + 1)
    asking.recall("ada", "  Who   drinks tea?")
    asking.recall("bob", "WHO DRINKS TEA?")
    eventually(lambda: len(logged(lane)) == 3)
    assert [row["cached"] for row in logged(lane)] == [False, True, True]
    assert len({bytes(row["query_hash"]) for row in logged(lane)}) == 1
    assert [row["spelt"] for row in logged(lane)] == [None, "  Who   drinks tea?", "WHO DRINKS TEA?"]
    assert kept(lane, settings) == before + 1


def test_what_was_embedded_ahead_is_known(asking: Client, lane: Lane, settings: Settings) -> None:
    before = kept(lane, settings)
    assert asking.embed(["Ahead?"]) == 1
    eventually(lambda: kept(lane, settings) == before + 1)
    asking.recall("ada", "Ahead?")
    eventually(lambda: kept(lane, settings) == before + 2)
    asking.recall("ada", "AHEAD?")
    eventually(lambda: len(logged(lane)) == 2)
    assert [row["cached"] for row in logged(lane)] == [True, True]


def test_of_several_agents_each_has_a_row(asking: Client, lane: Lane) -> None:
    asking.recall(["ada", "bob", "nobody"], "who drinks tea?")
    eventually(lambda: len(logged(lane)) == 2)
    assert [(row["name"], row["hits"]) for row in logged(lane, "name")] == [("ada", 2), ("bob", 1)]


@pytest.mark.parametrize(
    ("off", "rows", "texts", "vectors"),
    [("query_log", 0, 0, 1), ("query_text", 1, 0, 1), ("question_cache", 1, 1, 0)],
)
def test_what_is_switched_off(
    make_settings: MakeSettings, make_lane: Callable[[Settings], Lane], off: str, rows: int, texts: int, vectors: int
) -> None:
    settings = make_settings(**{off: False})
    lane = make_lane(settings)
    tenants.create_tenant(lane.cluster.control, "acme")
    key = tenants.create_key(lane.cluster.control, "acme")
    with serving(settings) as url, Client(url, key) as client:
        client.remember("ada", "tea")
        client.recall("ada", "A secret question?")
        client.recall("ada", "A secret question?")
    assert len(logged(lane)) == 2 * rows, "what is noted is written when the gateway ends"
    assert len([row for row in logged(lane) if row["query"] or row["spelt"]]) == 2 * texts
    assert kept(lane, settings) == vectors


def test_what_was_forgotten_before_it_was_logged_is_not(asking: Client, lane: Lane, settings: Settings) -> None:
    for _ in range(5):
        asking.recall("ada", "a secret question?")
        asking.forget_agent("ada")
        asking.recall("bob", "after that?")
        eventually(lambda: count_rows(settings, lane.cluster, "jobs") == 0)
    eventually(lambda: len(logged(lane)) >= 5)
    drain_all(lane, Kind.FORGET)
    assert {row["name"] for row in logged(lane)} == {"bob"}


def test_where_there_is_no_room_the_oldest_go(lane: Lane, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(query_log, "_ROOM", 3)
    log = QueryLog(lane.settings, lane.measures)
    for number in range(5):
        log.note(f"question {number}", (0, 1, 0), 0, 1.0, cached=False)
    assert [one.query for one in log.take()[0]] == ["question 2", "question 3", "question 4"]
    assert lane.measures.now().counts['memlane_questions_logged_total{result="dropped"}'] == 2
    assert log.take() == {}


def test_patterns_are_shown_to_whose_they_are(
    asking: Client, lane: Lane, run: Run, gateway: str, tenant_key: str
) -> None:
    for _ in range(6):
        asking.recall("ada", "What does she drink?")
    eventually(lambda: len(logged(lane)) == 6)
    query_patterns(lane, Slice(60.0))
    (pattern,) = asking.patterns("ada")
    assert (pattern.query, pattern.seen) == ("What does she drink?", 6)
    assert pattern.hash == question_hash("what does she drink?").hex()
    assert asking.patterns("bob") == ()
    tenants.create_tenant(lane.cluster.control, "rival")
    with Client(gateway, tenants.create_key(lane.cluster.control, "rival")) as rival, pytest.raises(NotFound):
        rival.patterns("ada")
    known = {"MEMLANE_URL": gateway, "MEMLANE_API_KEY": tenant_key}
    assert document(run("patterns", "ada", "--json", **known))[0]["seen"] == 6
    assert "What does she drink?" in run("patterns", "ada", **known).stdout


def test_an_agent_of_whom_nothing_is_known_has_no_patterns(client: Front) -> None:
    with pytest.raises(NotFound):
        client.patterns("nobody")
    client.remember("ada", "tea")
    assert client.patterns("ada") == ()


def test_patterns_may_be_awaited(gateway: str, tenant_key: str) -> None:
    async def ask() -> Sequence[Pattern]:
        async with AsyncClient(gateway, tenant_key) as client:
            await client.remember("ada", "tea")
            return await client.patterns("ada")

    assert asyncio.run(ask()) == ()
