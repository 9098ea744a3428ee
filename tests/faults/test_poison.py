"""A memory that kills whoever works on it harms itself alone, and then waits for somebody's decision."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from memlane.config.settings import Settings
from memlane.contract import Event, MemoryUpdate, Receipt, State
from memlane.storage import ids
from memlane.tasks.lane import Lane
from memlane.tasks.update import update_memory
from tests.local import WorkerProcess
from tests.poison import POISON, SLOW_POISON
from tests.support import MakeSettings, accepted, count_rows, eventually, item, ledger_of

pytestmark = [
    pytest.mark.faults,
    pytest.mark.timeout(300),
    pytest.mark.usefixtures("beat"),
    pytest.mark.parametrize("broker", ["redis"], indirect=True),  # what kills a process is no affair of the broker's
]

StartWorker = Callable[..., WorkerProcess]

PATIENCE_S = 120.0
ONE = {"changed": 1, "missing": []}


@pytest.fixture
def cluster_settings(make_settings: MakeSettings, broker_url: str) -> Settings:
    """Short leases, so that the dead are missed soon; small claims, so that few deaths are needed."""
    return make_settings(
        broker_url=broker_url,
        redis_url=broker_url,
        lease_s=1.5,
        statement_timeout_s=1.4,
        sweep_every_s=0.5,
        stop_grace_s=1.0,
        claim_size=16,
        deaths_alone=2,
    )


@pytest.fixture
def deadly(start_worker: StartWorker) -> WorkerProcess:
    """A worker that dies of poison; the sweep, in a process of its own, misses it."""
    start_worker("sweep", "sweep", 1)
    return start_worker("ingest", "remember,embed", app="tests.poisoned")


def state_of(lane: Lane, receipt: Receipt, tenant: str = "acme") -> State | None:
    """How far a memory has come."""
    shard = lane.cluster.shard(lane.cluster.shard_of(tenant, receipt.agent))
    number = lane.numbers.of(shard, tenant, [receipt.agent], register=False)[receipt.agent]
    found = ids.states(shard, [(number, receipt.id)])
    return found[number, receipt.id][0]


def reached(lane: Lane, receipts: list[Receipt], state: State, tenant: str = "acme") -> Callable[[], bool]:
    """Whether all have come so far; meanwhile nothing may be lost or doubled."""

    def look() -> bool:
        assert ledger_of(lane.cluster, tenant).balanced
        return all(state_of(lane, receipt, tenant) is state for receipt in receipts)

    return look


def memlane(url: str, key: str, *arguments: str) -> Any:
    """What a command prints as JSON."""
    environment = {**os.environ, "MEMLANE_URL": url, "MEMLANE_API_KEY": key}
    command = [sys.executable, "-m", "memlane", *arguments, "--json"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_poison_among_the_good(
    door: Lane,
    deadly: WorkerProcess,
    start_worker: StartWorker,
    cluster_settings: Settings,
    gateway: str,
    keys: tuple[str, str],
) -> None:
    """Two at once: both are parked, all others stored, another tenant served; one is tried again, one given up."""
    admin_key = keys[1]
    texts = [f"memory {n}" for n in range(100)]
    texts[30], texts[31] = f"{POISON} one", f"{POISON} two"
    receipts = accepted(door, *map(item, texts))
    others = accepted(door, *(item(f"other {n}") for n in range(20)), tenant="bolt")
    good = [receipt for receipt, text in zip(receipts, texts, strict=True) if POISON not in text]
    eventually(reached(door, others, State.SEARCHABLE, "bolt"), PATIENCE_S)
    eventually(reached(door, good, State.SEARCHABLE), PATIENCE_S)
    eventually(reached(door, receipts[30:32], State.PARKED), PATIENCE_S)
    listed = memlane(gateway, admin_key, "jobs", "parked", "list", "--tenant", "acme")
    assert {(one["id"], one["kind"]) for one in listed} == {(str(r.id), "remember") for r in receipts[30:32]}
    assert all("died" in one["error"] and one["deaths"] == 6 for one in listed)
    assert POISON not in json.dumps(listed)
    balance = ledger_of(door.cluster, "acme")
    assert (balance.parked, balance.open, balance.balanced) == (2, 0, True)

    deadly.teardown()
    start_worker("ingest", "remember,embed")
    assert memlane(gateway, admin_key, "jobs", "parked", "retry", str(receipts[30].id)) == ONE
    eventually(reached(door, [receipts[30]], State.SEARCHABLE), PATIENCE_S)
    assert memlane(gateway, admin_key, "jobs", "parked", "drop", "--all", "--tenant", "acme", "--yes") == {
        "changed": 1,
        "missing": [],
    }
    assert state_of(door, receipts[31]) is State.FORGOTTEN
    balance = ledger_of(door.cluster, "acme")
    assert (balance.parked, balance.open, balance.balanced) == (0, 0, True)
    counts = {Event.STORED: 99, Event.DROPPED: 1, Event.PARKED: 2, Event.UNPARKED: 1, Event.ACCEPTED: 100}
    assert {event: balance.events[event] for event in counts} == counts
    assert count_rows(cluster_settings, door.cluster, "memories") == 99 + 20
    assert count_rows(cluster_settings, door.cluster, "jobs") == 0
    assert accepted(door, item(texts[31], id=receipts[31].id))[0].state is State.FORGOTTEN


def test_poison_for_those_who_embed(
    door: Lane,
    deadly: WorkerProcess,
    start_worker: StartWorker,
    cluster_settings: Settings,
    gateway: str,
    keys: tuple[str, str],
) -> None:
    """A memory that is stored stays so, and can be read; only its vector waits."""
    receipts = accepted(door, *(item(f"memory {n}") for n in range(20)))
    eventually(reached(door, receipts, State.SEARCHABLE), PATIENCE_S)
    texts = [f"again {n}" for n in range(20)]
    texts[3], texts[4] = f"{SLOW_POISON} one", f"{SLOW_POISON} two"
    for receipt, text in zip(receipts, texts, strict=True):
        assert update_memory(door, "acme", "ada", receipt.id, MemoryUpdate(content=text))
    bad = receipts[3:5]
    eventually(reached(door, [receipt for receipt in receipts if receipt not in bad], State.SEARCHABLE), PATIENCE_S)
    eventually(reached(door, bad, State.PARKED), PATIENCE_S)
    assert count_rows(cluster_settings, door.cluster, "memories", f"content LIKE '{SLOW_POISON}%'") == 2

    deadly.teardown()
    start_worker("ingest", "remember,embed")
    (first, second) = memlane(gateway, keys[1], "jobs", "parked", "list", "--kind", "embed")
    assert memlane(gateway, keys[1], "jobs", "parked", "retry", first["job"]) == ONE
    assert memlane(gateway, keys[1], "jobs", "parked", "drop", second["job"]) == ONE
    by_id = {str(receipt.id): receipt for receipt in bad}
    eventually(reached(door, [by_id[first["id"]]], State.SEARCHABLE), PATIENCE_S)
    assert state_of(door, by_id[second["id"]]) is State.STORED
    assert count_rows(cluster_settings, door.cluster, "memories") == 20
    assert count_rows(cluster_settings, door.cluster, door.table) == 19
    balance = ledger_of(door.cluster, "acme")
    assert (balance.events[Event.STORED], balance.events[Event.DROPPED], balance.balanced) == (20, 0, True)
