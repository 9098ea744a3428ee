"""Processes that stand still for longer than their lease: others do the work, and the late one changes nothing."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from threading import Thread

import psutil
import psycopg
import pytest

from memlane.beat.sweep import Sweep
from memlane.config.settings import Settings
from memlane.contract import Event
from memlane.errors import Unavailable
from memlane.storage import jobs
from memlane.storage.cluster import Shard
from memlane.storage.jobs import Kind, Terms
from memlane.tasks.lane import Lane
from memlane.workers import drains
from tests.faults.linked import Links, linked
from tests.local import LocalProcess, WorkerProcess
from tests.processes import GatedProvider
from tests.proxy import Proxy
from tests.support import (
    MakeSettings,
    accepted,
    count_rows,
    drain_all,
    eventually,
    item,
    ledger_of,
    process_of,
    sql,
)

pytestmark = [pytest.mark.faults, pytest.mark.timeout(180)]


@pytest.mark.parametrize("broker", ["redis"], indirect=True)
def test_a_worker_that_was_stopped_is_fenced(
    start_worker: Callable[..., WorkerProcess],
    cluster_settings: Settings,
    door: Lane,
    provider: tuple[GatedProvider, str],
    beat: LocalProcess,
) -> None:
    """It stands still at the provider's gate; another does its jobs; when it goes on it takes the deaths back."""
    gated, _ = provider
    start_worker("sweep", "sweep", 1)
    stopped = start_worker("ingest", "memory,remember,embed")
    gated.gate.clear()
    accepted(door, *(item(f"memory {n}", agent=f"agent-{n % 9}") for n in range(40)))
    assert gated.reached.wait(30)
    eventually(lambda: count_rows(cluster_settings, door.cluster, "leases") >= 1)
    processes = [psutil.Process(stopped.pid), *psutil.Process(stopped.pid).children(recursive=True)]
    for process in processes:
        process.suspend()
    eventually(lambda: count_rows(cluster_settings, door.cluster, "jobs", "deaths = 1") >= 1, 30)
    gated.gate.set()
    start_worker("ingest", "memory,remember,embed")
    eventually(lambda: _all_once(cluster_settings, door, 40), 60)
    for process in processes:
        process.resume()
    eventually(lambda: "drain.fenced" in stopped.logs(), 30)
    accepted(door, *(item(f"more {n}", agent=f"agent-{n % 9}") for n in range(10)))
    eventually(lambda: _all_once(cluster_settings, door, 50), 60)
    balance = ledger_of(door.cluster, "acme")
    assert balance.balanced
    assert balance.events[Event.STORED] == balance.events[Event.EMBEDDED] == 50
    assert beat.status == stopped.status == "running"


def _all_once(settings: Settings, lane: Lane, memories: int) -> bool:
    return (
        count_rows(settings, lane.cluster, "memories") == count_rows(settings, lane.cluster, lane.table) == memories
        and count_rows(settings, lane.cluster, "jobs") == count_rows(settings, lane.cluster, "leases") == 0
    )


LEASE_S = 1.0


@pytest.fixture
def settings(make_settings: MakeSettings) -> Settings:
    """A short lease."""
    return make_settings(lease_s=LEASE_S, statement_timeout_s=0.9, sweep_every_s=1.0)


@pytest.fixture
def far(settings: Settings) -> Iterator[tuple[Links, Settings]]:
    """Links to the nodes, and the settings that lead through them."""
    with linked(settings) as made:
        yield made


@pytest.fixture
def link(far: tuple[Links, Settings], shard: Shard) -> Proxy:
    """To the node of agent `ada`."""
    return far[0][shard.node.name]


@pytest.fixture
def late(far: tuple[Links, Settings], make_lane: Callable[[Settings], Lane]) -> Lane:
    """The lane of one that will be late."""
    return make_lane(far[1])


SYNC = b"S\0\0\0\4"
"""The protocol's last message of a statement: at it the transaction ends."""


def test_a_finish_that_stalls_before_its_end_holds_no_rows_for_longer_than_a_lease(
    late: Lane, link: Proxy, lane: Lane, shard: Shard, settings: Settings
) -> None:
    """The statement has run and holds its rows; what would commit it never comes."""
    accepted(lane, *(item(f"tea {n}") for n in range(30)))
    finishing = _hold_the_finish(late, link, shard, len(SYNC))
    eventually(lambda: _locked(settings, shard))
    _sweep_until_done(lane, settings, 30)
    link.mend()
    _end(finishing)
    _check_once(lane, settings, 30)


def test_a_finish_that_arrives_late_changes_nothing(
    late: Lane, link: Proxy, lane: Lane, shard: Shard, settings: Settings
) -> None:
    """A part of the statement is on its way for longer than the lease; then the rest comes, and it is run."""
    accepted(lane, *(item(f"tea {n}") for n in range(30)))
    finishing = _hold_the_finish(late, link, shard, len(SYNC) + 100)
    assert not _locked(settings, shard)
    _sweep_until_done(lane, settings, 30)
    link.mend()
    _end(finishing)
    _check_once(lane, settings, 30)


def _hold_the_finish(late: Lane, link: Proxy, shard: Shard, held_bytes: int) -> Thread:
    """Begin a finish whose last bytes do not reach the server."""
    here = late.cluster.shard(shard.number)
    claim = jobs.claim(here, Kind.REMEMBER, Terms("late", LEASE_S, 50))
    assert claim is not None
    trap = link.hold_when(lambda said: claim.token.bytes in said and said.endswith(SYNC), held_bytes)

    def finish() -> None:
        with suppress(Unavailable):
            drains.work_off(process_of(late), here, claim)

    finishing = Thread(target=finish)
    finishing.start()
    eventually(lambda: trap.count == 1)
    return finishing


def _locked(settings: Settings, shard: Shard) -> bool:
    """Whether somebody holds jobs."""
    with sql(settings, shard.node.name) as connection:
        try:
            connection.execute(f"SELECT FROM {shard.schema}.jobs FOR UPDATE NOWAIT".encode())
        except psycopg.errors.LockNotAvailable:
            return True
    return False


def _end(finishing: Thread) -> None:
    finishing.join(30)
    assert not finishing.is_alive()


def _sweep_until_done(lane: Lane, settings: Settings, memories: int) -> None:
    """What beat and workers do, again and again."""
    sweep = Sweep(lane, lambda _kind, _shard: True)

    def done() -> bool:
        sweep()
        drain_all(lane, Kind.REMEMBER)
        return count_rows(settings, lane.cluster, "memories") == memories

    eventually(done, 30)


def _check_once(lane: Lane, settings: Settings, memories: int) -> None:
    eventually(lambda: _all_once(settings, lane, memories))
    balance = ledger_of(lane.cluster, "acme")
    assert balance.balanced
    assert balance.events[Event.STORED] == balance.events[Event.EMBEDDED] == memories
