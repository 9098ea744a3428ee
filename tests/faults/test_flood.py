"""More large memories than there is memory for: workers claim less and make way, nobody is killed, all is stored."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

from memlane.config.settings import Settings
from memlane.contract import Event
from memlane.tasks.lane import Lane
from tests.local import LocalProcess, WorkerProcess
from tests.support import accepted, count_rows, eventually, item, ledger_of

pytestmark = [pytest.mark.faults, pytest.mark.timeout(240), pytest.mark.parametrize("broker", ["redis"], indirect=True)]

TENANTS = ("acme", "beta", "gamma", "delta")

EACH = 500
"""Memories of each tenant."""

TEXT = "the tea was too hot to drink " * 1000
"""29 KB, but few words: Postgres is not what is tried here."""

QUEUES = "memory,remember,embed"


def holds(worker: WorkerProcess) -> float:
    """What the largest child of a worker holds, in MiB."""
    children = psutil.Process(worker.pid).children()
    return max((child.memory_info().rss for child in children), default=0) / 2**20


@pytest.mark.parametrize(
    ("app", "room"),
    [("memlane.workers.main", 1.2), ("tests.leaky", 1.35)],
    ids=["a small limit", "one that keeps all it was given"],
)
def test_a_flood_kills_nobody(
    cluster_settings: Settings,
    start_worker: Callable[..., WorkerProcess],
    door: Lane,
    beat: LocalProcess,
    app: str,
    room: float,
) -> None:
    start_worker("sweep", "sweep", 1)
    begun = start_worker("ingest", QUEUES, 1)
    accepted(door, item(TEXT))
    eventually(lambda: count_rows(cluster_settings, door.cluster, "memories") == 1, 60)
    limit_mb = int(holds(begun) * room)
    begun.teardown()
    small = cluster_settings.model_copy(update={"child_memory_mb": limit_mb, "claim_size": 256})
    worker = start_worker("ingest", QUEUES, settings=small, app=app)
    main = worker.pid
    with ThreadPoolExecutor(len(TENANTS)) as pool:
        list(pool.map(lambda tenant: hand_over(door, tenant), TENANTS))

    def stored() -> bool:
        assert count_rows(cluster_settings, door.cluster, "jobs", "deaths > 0 OR parked_at IS NOT NULL") == 0
        return count_rows(cluster_settings, door.cluster, "jobs") == 0

    eventually(stored, 120)
    for tenant in TENANTS:
        balance = ledger_of(door.cluster, tenant)
        assert balance.balanced
        assert balance.events[Event.STORED] == balance.events[Event.EMBEDDED] == EACH + (tenant == "acme")
    assert count_rows(cluster_settings, door.cluster, "leases") == 0
    assert (worker.pid, worker.status, beat.status) == (main, "running", "running")
    said = worker.logs()
    assert "claims" in said, "the throttle acted"
    assert not [line for line in said.splitlines() if "WorkerLostError" in line or "exited with" in line]
    if app == "tests.leaky":
        assert "throttle.ends" in said, "children made way"


def hand_over(door: Lane, tenant: str) -> None:
    """As fast as they are taken in."""
    for begin in range(0, EACH, 50):
        accepted(door, *(item(f"{n} {TEXT}", f"agent-{n % 7}") for n in range(begin, begin + 50)), tenant=tenant)
