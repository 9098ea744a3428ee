"""The whole system of real processes, on both brokers: what goes in comes out once, whoever is killed."""

import base64
import json
import os
import signal
from collections import Counter
from collections.abc import Callable
from time import sleep
from typing import Any
from uuid import uuid4

import psutil
import pytest
import redis
from pytest_celery import CeleryTestSetup

from memlane import Client
from memlane.admin import Admin
from memlane.config.settings import Settings
from memlane.contract import Event, State
from memlane.storage import ids
from memlane.storage.cluster import Cluster
from memlane.tasks import accept
from memlane.tasks.lane import Lane
from memlane.workers.app import make_app
from tests.local import LocalProcess, WorkerProcess
from tests.processes import GatedProvider
from tests.support import accepted, count_rows, eventually, item, ledger_of, sql

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(180)]


def contents(settings: Settings, cluster: Cluster) -> Counter[str]:
    """Every stored content, by SQL of the test's own."""
    found: Counter[str] = Counter()
    for shard in cluster.shards():
        with sql(settings, shard.node.name) as connection:
            rows = connection.execute(f"SELECT content FROM {shard.schema}.memories".encode()).fetchall()
        found.update(content for (content,) in rows)
    return found


def all_done(settings: Settings, lane: Lane, memories: int) -> bool:
    """Whether so many memories have their vector and nothing is open."""
    return (
        count_rows(settings, lane.cluster, lane.table) == memories
        and count_rows(settings, lane.cluster, "jobs") == count_rows(settings, lane.cluster, "leases") == 0
    )


def test_both_doors(
    system: CeleryTestSetup, cluster_settings: Settings, door: Lane, gateway: str, keys: tuple[str, str]
) -> None:
    """Through the SDK and through send_task, all is stored once and recalled."""
    assert len(system.worker_cluster) == 3
    producer = make_app(cluster_settings)
    for number in range(20):
        message = {"tenant": "acme", "agent": f"agent-{number % 5}", "content": f"by celery {number}"}
        producer.send_task("memory.remember", kwargs=message)
    producer.send_task("memory.remember", kwargs={"tenant": "acme", "agent": "ada", "content": ""})
    with Client(gateway, keys[0]) as client:
        items = [{"agent": f"agent-{n % 5}", "content": f"by the SDK {n}"} for n in range(60)]
        client.remember_many(items).wait("searchable", timeout=40)
        eventually(lambda: all_done(cluster_settings, door, 80), 40)
        hits = client.recall("agent-3", "by the SDK 13", limit=3).hits
        assert hits[0].memory.content == "by the SDK 13"
        assert hits[0].parts.vector is not None
        assert {hit.memory.content for hit in client.recall("agent-4", "celery", limit=20)} >= {
            "by celery 4",
            "by celery 19",
        }
        assert client.ledger().balanced
    found = contents(cluster_settings, door.cluster)
    assert set(found.values()) == {1}
    assert len(found) == 80
    admin = Admin(gateway, keys[1])
    eventually(lambda: [(stray.task, stray.count) for stray in admin.status().strays] == [("memory.remember", 1)])
    assert "content" in admin.status().strays[0].reason
    admin.close()


def test_kill_9_in_the_middle(
    system: CeleryTestSetup,
    cluster_settings: Settings,
    door: Lane,
    provider: tuple[GatedProvider, str],
    beat: LocalProcess,
) -> None:
    """The provider is held at a gate, leases live; their holder is killed; another token finishes all of it once."""
    gated, _ = provider
    gated.gate.clear()
    receipts = accepted(door, *(item(f"memory {n}", agent=f"agent-{n % 9}") for n in range(40)))
    assert gated.reached.wait(20)
    eventually(lambda: count_rows(cluster_settings, door.cluster, "leases", "expires_at > now()") >= 1)
    before = _tokens(cluster_settings, door.cluster)
    for worker in list(system.worker_cluster)[:2]:
        worker.kill()
        assert worker.container.status == "exited"
    assert count_rows(cluster_settings, door.cluster, "memories") == 0
    gated.gate.set()
    next(iter(system.worker_cluster)).container.start()
    eventually(lambda: all_done(cluster_settings, door, 40), 60)
    assert _tokens(cluster_settings, door.cluster).isdisjoint(before)
    found = contents(cluster_settings, door.cluster)
    assert found == Counter(f"memory {n}" for n in range(40))
    assert count_rows(cluster_settings, door.cluster, "ids", "state = 'searchable'") == len(receipts)
    balance = ledger_of(door.cluster, "acme")
    assert balance.balanced
    assert (balance.parked, balance.events[Event.STORED]) == (0, 40)
    assert beat.status == "running"


def _tokens(settings: Settings, cluster: Cluster) -> set[object]:
    found: set[object] = set()
    for shard in cluster.shards():
        with sql(settings, shard.node.name) as connection:
            found |= {row[0] for row in connection.execute(f"SELECT token FROM {shard.schema}.leases".encode())}
    return found


def test_a_killed_pool_child_is_replaced(
    start_worker: Callable[..., WorkerProcess],
    cluster_settings: Settings,
    door: Lane,
    provider: tuple[GatedProvider, str],
    beat: LocalProcess,
) -> None:
    gated, _ = provider
    worker = start_worker("ingest", "memory,remember,embed")
    start_worker("sweep", "sweep", 1)
    gated.gate.clear()
    accepted(door, *(item(f"memory {n}") for n in range(20)))
    assert gated.reached.wait(20)
    for child in psutil.Process(worker.pid).children():
        os.kill(child.pid, signal.SIGKILL)
    gated.gate.set()
    eventually(lambda: all_done(cluster_settings, door, 20), 60)
    assert contents(cluster_settings, door.cluster) == Counter(f"memory {n}" for n in range(20))
    assert ledger_of(door.cluster, "acme").balanced
    assert worker.status == beat.status == "running"


def test_sigterm_leaves_nothing_leased(
    start_worker: Callable[..., WorkerProcess],
    cluster_settings: Settings,
    door: Lane,
    provider: tuple[GatedProvider, str],
) -> None:
    """A drain that cannot finish within the grace gives its lease back; what can finish, does."""
    gated, _ = provider
    worker = start_worker("ingest", "memory,remember,embed")
    gated.gate.clear()
    accepted(door, *(item(f"memory {n}") for n in range(10)))
    assert gated.reached.wait(20)
    worker.kill(signal.SIGTERM)
    eventually(lambda: count_rows(cluster_settings, door.cluster, "leases") == 0, 20)
    assert count_rows(cluster_settings, door.cluster, "jobs", "lease IS NULL AND deaths = 0") == 10
    gated.gate.set()
    assert worker.wait() == 0
    assert count_rows(cluster_settings, door.cluster, "memories") == 0
    start_worker("ingest", "memory,remember,embed")
    accepted(door, item("one more"))
    eventually(lambda: all_done(cluster_settings, door, 11), 30)


def test_orphans_die_with_their_worker(start_worker: Callable[..., WorkerProcess]) -> None:
    worker = start_worker("ingest", "remember")
    children = psutil.Process(worker.pid).children(recursive=True)
    assert len(children) >= 2
    worker.kill()
    eventually(lambda: not any(_lives(child) for child in children))


def _lives(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize("broker", ["redis"], indirect=True)
def test_without_a_broker_accepts_go_on_and_nothing_is_lost(
    system: CeleryTestSetup, cluster_settings: Settings, door: Lane, broker: LocalProcess | str, beat: LocalProcess
) -> None:
    assert isinstance(broker, LocalProcess)
    broker.kill()
    receipts = accepted(door, *(item(f"memory {n}") for n in range(15)))
    assert {receipt.state for receipt in receipts} == {State.ACCEPTED}
    sleep(1)
    broker.start()
    eventually(lambda: all_done(cluster_settings, door, 15), 90)
    assert ledger_of(door.cluster, "acme").balanced
    assert beat.status == "running"
    assert len(system.worker_cluster) == 3


def test_a_provider_that_refuses_delays_only_the_vectors(
    system: CeleryTestSetup,
    cluster_settings: Settings,
    door: Lane,
    provider: tuple[GatedProvider, str],
    beat: LocalProcess,
) -> None:
    gated, _ = provider
    gated._rpm = 1
    gated._window.append(1e12)  # one request, whose minute never ends
    (receipt,) = accepted(door, item("tea"))
    eventually(lambda: count_rows(cluster_settings, door.cluster, "memories") == 1, 20)
    shard = door.cluster.shard(door.cluster.shard_of("acme", "ada"))
    assert ids.states(shard, [(1, receipt.id)])[1, receipt.id][0] is State.STORED
    gated._rpm = 0
    eventually(lambda: all_done(cluster_settings, door, 1), 40)
    assert beat.status == "running"
    assert system.worker_cluster is not None


def test_the_same_key_from_both_doors_is_one_memory(
    system: CeleryTestSetup, cluster_settings: Settings, door: Lane
) -> None:
    producer = make_app(cluster_settings)
    for _ in range(3):
        producer.send_task("memory.remember", kwargs={"tenant": "acme", "agent": "ada", "content": "tea", "key": "k"})
        accept.accept(door, "acme", [item("tea", key="k")])
    eventually(lambda: all_done(cluster_settings, door, 1), 30)
    eventually(lambda: ledger_of(door.cluster, "acme").events[Event.DUPLICATE] == 5)
    assert system.worker_cluster is not None


@pytest.mark.parametrize("broker", ["redis"], indirect=True)
def test_malformed_messages_stop_nobody(system: CeleryTestSetup, cluster_settings: Settings, door: Lane) -> None:
    """What no Celery would send, but somebody may put into the queue by hand."""
    good: dict[str, Any] = {"headers": {"task": "memory.remember", "id": "m", "lang": "py"}, "body": [[], {}, {}]}
    bad: list[dict[str, Any]] = [
        {**good, "body": []},
        {**good, "body": None},
        {**good, "body": {"not": "a list"}},
        {**good, "body": [[], {"self": 1, "tenant": "acme"}, {}]},
        {**good, "headers": {"task": "memory.remember", "lang": "py"}},
        {**good, "headers": {"task": ["memory.remember"], "id": "m"}},
        {**good, "headers": {"task": "memory.nope", "id": "m"}},
        {**good, "headers": {**good["headers"], "timelimit": 5}},
        {**good, "headers": [1]},
    ]
    pids = [worker.container.pid for worker in system.worker_cluster]
    with redis.Redis.from_url(cluster_settings.broker_url.get_secret_value()) as client:
        for message in bad:
            client.lpush("memory", _envelope(message))
    make_app(cluster_settings).send_task("memory.remember", kwargs={"tenant": "acme", "agent": "ada", "content": "tea"})
    eventually(lambda: all_done(cluster_settings, door, 1), 30)
    assert [worker.container.pid for worker in system.worker_cluster] == pids
    assert all(worker.container.status == "running" for worker in system.worker_cluster)


def _envelope(message: dict[str, Any]) -> str:
    """A message as kombu puts it into Redis."""
    return json.dumps(
        {
            "body": base64.b64encode(json.dumps(message["body"]).encode()).decode(),
            "headers": message["headers"],
            "content-type": "application/json",
            "content-encoding": "utf-8",
            "properties": {
                "body_encoding": "base64",
                "delivery_tag": str(uuid4()),
                "delivery_info": {"exchange": "", "routing_key": "memory"},
                "delivery_mode": 2,
                "priority": 0,
            },
        }
    )
