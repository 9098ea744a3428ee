"""What real workers, a gateway and a beat tell Sentry: that something broke and where, and no memory's text."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from pydantic import SecretStr

from memlane import Client
from memlane.config.settings import Settings
from memlane.contract import MemoryItem
from memlane.embedded.ports import free_port
from memlane.storage.cluster import Shard
from memlane.tasks.lane import Lane
from memlane.workers.app import make_app
from tests.local import LocalProcess, WorkerProcess
from tests.processes import GatedProvider
from tests.sentry import FakeSentry, listening
from tests.support import accepted, count_rows, eventually, item, sql

CANARY = "kanarienvogel-5be2"

pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.timeout(240),
    pytest.mark.parametrize("broker", ["redis"], indirect=True),
]

StartWorker = Callable[..., WorkerProcess]


@pytest.fixture
def ingest() -> Iterator[FakeSentry]:
    """A Sentry that lives."""
    with listening() as made:
        yield made


@pytest.fixture
def dsn(ingest: FakeSentry, request: pytest.FixtureRequest) -> str:
    """Where processes report to: the tests' Sentry, or what a test says."""
    return getattr(request, "param", None) or ingest.dsn


@pytest.fixture
def cluster_settings(cluster_settings: Settings, dsn: str) -> Settings:
    """The settings of the test's cluster, which reports."""
    return cluster_settings.model_copy(update={"sentry_dsn": SecretStr(dsn), "vacuum_every_s": 60})


def canary() -> MemoryItem:
    """A memory with a canary in each of its fields."""
    names = dict.fromkeys(("agent", "key", "speaker", "thread"), CANARY)
    return item(f"the {CANARY} sings", **names, metadata={"note": CANARY})


def spoilt(settings: Settings, shard: Shard) -> None:
    """A job whose date the database refuses, with a message that quotes it."""
    with sql(settings, shard.node.name) as connection:
        done = connection.execute(
            f"UPDATE {shard.schema}.jobs SET payload = payload || jsonb_build_object('occurred_at', %s::text)".encode(),
            (CANARY,),
        )
        assert done.rowcount == 1


def shard_of(lane: Lane, agent: str = CANARY) -> Shard:
    return lane.cluster.shard(lane.cluster.shard_of("acme", agent))


def test_an_error_in_a_drain_arrives(
    start_worker: StartWorker, cluster_settings: Settings, door: Lane, ingest: FakeSentry
) -> None:
    accepted(door, canary())
    spoilt(cluster_settings, shard_of(door))
    worker = start_worker("ingest", "memory,remember,embed", 1)
    eventually(lambda: bool(ingest.of_type("ServerError")), 30)
    event = ingest.of_type("ServerError")[0]
    assert event["message"] == "drain.failed"
    where = {"kind": "remember", "shard": str(shard_of(door).number), "jobs": "1"}
    assert event["tags"] == {**where, "operation": "drain.remember"}
    value = event["exception"]["values"][-1]
    assert "SQLSTATE 22007" in value["value"]
    assert value["stacktrace"]["frames"][0]["filename"] == "memlane/workers/drains.py"
    make_app(cluster_settings).send_task(f"other.{CANARY}", kwargs={"content": CANARY}, queue="memory")
    eventually(lambda: any(event["message"] == "message.unknown_task" for event in ingest.events), 20)
    worker.kill(signal.SIGTERM)
    worker.wait()
    assert CANARY.encode() not in b"".join(ingest.raw)


def test_a_killed_pool_child_arrives(
    start_worker: StartWorker, door: Lane, provider: tuple[GatedProvider, str], ingest: FakeSentry
) -> None:
    gated, _ = provider
    worker = start_worker("ingest", "memory,remember,embed", 1)
    gated.gate.clear()
    accepted(door, canary())
    assert gated.reached.wait(20)
    for child in psutil.Process(worker.pid).children():
        os.kill(child.pid, signal.SIGKILL)
    eventually(lambda: bool(ingest.of_type("WorkerLostError")), 30)
    event = ingest.of_type("WorkerLostError")[0]
    assert event["logger"] == "celery.worker.request"
    assert "value" not in event["exception"]["values"][-1]
    gated.gate.set()
    assert CANARY.encode() not in b"".join(ingest.raw)


def test_a_gateway_that_answers_500_says_why(
    start_worker: StartWorker,
    cluster_settings: Settings,
    door: Lane,
    gateway: str,
    keys: tuple[str, str],
    ingest: FakeSentry,
) -> None:
    """A damaged table: a row that breaks our code, and one that the driver cannot read."""
    start_worker("ingest", "memory,remember,embed", 1)
    with Client(gateway, keys[0], retries=0) as client:
        receipt = client.remember(CANARY, f"the {CANARY} sings", key=CANARY, metadata={"note": CANARY})
        receipt.wait("searchable", timeout=30)
    shard = shard_of(door)
    headers = {"Authorization": f"Bearer {keys[0]}"}
    with sql(cluster_settings, shard.node.name) as connection, httpx.Client(base_url=gateway, headers=headers) as http:
        connection.execute(f"ALTER TABLE {shard.schema}.memories ALTER tags DROP NOT NULL".encode())
        connection.execute(f"UPDATE {shard.schema}.memories SET tags = NULL".encode())
        assert http.get(f"/v1/memories/{CANARY}/{receipt.id}").status_code == 500
        eventually(lambda: bool(ingest.of_type("TypeError")))
        connection.execute(f"UPDATE {shard.schema}.memories SET tags = '{{}}', occurred_at = 'infinity'".encode())
        answer = http.post("/v1/recall", json={"agent": CANARY, "query": f"where is the {CANARY}?"})
        assert answer.status_code == 500
        eventually(lambda: bool(ingest.of_type("ServerError")))
        assert answer.json()["code"] == "server_error"
    broken, refused = ingest.of_type("TypeError")[0], ingest.of_type("ServerError")[0]
    assert broken["message"] == "an error in uvicorn.error"
    assert broken["exception"]["values"][-1]["stacktrace"]["frames"][-1]["function"] == "_memory"
    assert "value" not in broken["exception"]["values"][-1]
    assert refused["message"] == "request.failed"
    for raw in ingest.raw:
        for secret in (CANARY, str(receipt.id), keys[0], "Authorization"):
            assert secret.encode() not in raw


def test_a_beat_and_its_worker_check_in(start_worker: StartWorker, beat: LocalProcess, ingest: FakeSentry) -> None:
    """Beat sends its first vacuum a minute after it began."""
    start_worker("upkeep", "optimize", 1)
    eventually(lambda: ingest.check_ins("memlane-vacuum")[:2] == ["in_progress", "ok"], 90)
    (first, second, *_) = [said for kind, said in ingest.items if kind == "check_in"]
    assert first["check_in_id"] == second["check_in_id"]
    assert first["monitor_config"]["schedule"] == {"type": "interval", "value": 1, "unit": "minute"}
    assert first["monitor_config"]["max_runtime"] == 60
    assert (first["environment"], second["duration"] >= 0) == ("test", True)
    assert {said["monitor_slug"] for kind, said in ingest.items if kind == "check_in"} == {"memlane-vacuum"}
    assert ingest.events == []
    assert beat.status == "running"


@pytest.mark.parametrize("dsn", ["nonsense-hunter2", f"http://hunter2@127.0.0.1:{free_port()}/1"], indirect=True)
def test_without_a_sentry_that_answers_the_system_goes_on(
    dsn: str,
    start_worker: StartWorker,
    cluster_settings: Settings,
    door: Lane,
    gateway: str,
    keys: tuple[str, str],
    process_folder: Path,
) -> None:
    accepted(door, canary())
    spoilt(cluster_settings, shard_of(door))
    worker = start_worker("ingest", "memory,remember,embed", 1)
    eventually(lambda: "drain.failed" in worker.logs(), 20)
    with Client(gateway, keys[0]) as client:
        client.remember("ada", "tea").wait("searchable", timeout=30)
        assert client.recall("ada", "tea").hits
    said = "sentry.off" if dsn.startswith("nonsense") else "sentry.not_sent"
    eventually(lambda: worker.logs().count(said) == 1, 20)
    worker.kill(signal.SIGTERM)
    assert worker.wait() == 0
    for log in process_folder.glob("*.log"):
        assert log.read_text().count(said) <= 1, log.name
        assert "hunter2" not in log.read_text(), log.name
    assert count_rows(cluster_settings, door.cluster, "memories") == 1
