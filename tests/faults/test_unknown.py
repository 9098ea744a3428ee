"""Connections that are lost while something commits: nobody knows whether it did, and the retry finds out."""

from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from memlane import Client
from memlane.config.settings import Settings
from memlane.contract import Event, MemoryUpdate, State
from memlane.errors import Unavailable
from memlane.storage import jobs
from memlane.storage.cluster import Shard
from memlane.storage.jobs import Claim, Kind, Terms
from memlane.tasks.lane import Lane
from memlane.tasks.update import update_memory
from memlane.workers import drains
from tests.contract.conftest import serving
from tests.faults.linked import Links, linked
from tests.proxy import Moment, Proxy
from tests.support import accepted, count_rows, drain_all, eventually, item, ledger_of, process_of, remembered

pytestmark = pytest.mark.faults

MakeLane = Callable[[Settings], Lane]


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
def client(far: tuple[Links, Settings], tenant_key: str) -> Iterator[Client]:
    """The SDK before a gateway that reaches its nodes by the links."""
    with serving(far[1]) as url, Client(url, tenant_key) as made:
        yield made


def commits(said: bytes) -> bool:
    return b"COMMIT" in said


def test_an_accept(client: Client, link: Proxy, lane: Lane, settings: Settings) -> None:
    for moment in Moment:
        content = f"lost: {moment.name}"
        trap = link.cut_when(lambda said, content=content: content.encode() in said, moment)  # type: ignore[misc]
        receipt = client.remember("ada", content)
        assert trap.count == 1
        assert receipt.state is (State.ACCEPTED if moment is Moment.BEFORE else State.DUPLICATE)
    drain_all(lane)
    assert count_rows(settings, lane.cluster, "memories") == count_rows(settings, lane.cluster, "ids") == len(Moment)
    balance = ledger_of(lane.cluster, "acme")
    assert balance.balanced
    assert balance.events[Event.ACCEPTED] == balance.events[Event.STORED] == len(Moment)


def test_an_atomic_batch(client: Client, link: Proxy, lane: Lane, settings: Settings) -> None:
    for moment in Moment:
        trap = link.cut_when(commits, moment)
        batch = client.remember_many([{"agent": "ada", "content": f"{moment.name} {n}"} for n in range(5)], atomic=True)
        assert trap.count == 1
        assert not batch.rejections
    drain_all(lane)
    sent = 5 * len(Moment)
    assert count_rows(settings, lane.cluster, "memories") == count_rows(settings, lane.cluster, "ids") == sent
    balance = ledger_of(lane.cluster, "acme")
    assert balance.balanced
    assert balance.events[Event.ACCEPTED] == sent


def test_an_update(client: Client, link: Proxy, lane: Lane, settings: Settings) -> None:
    for moment in Moment:
        (receipt,) = remembered(lane, item("tea"))
        trap = link.cut_when(commits, moment)
        changed = client.update("ada", receipt.id, content="coffee", tags=["hot"])
        assert trap.count == 1
        assert (changed.content, changed.tags) == ("coffee", ("hot",))
    drain_all(lane)
    assert count_rows(settings, lane.cluster, "versions") == len(Moment)
    assert count_rows(settings, lane.cluster, "memories", "content = 'coffee' AND version = 2") == len(Moment)
    assert count_rows(settings, lane.cluster, lane.table) == len(Moment)
    assert ledger_of(lane.cluster, "acme").events[Event.UPDATED] == len(Moment)


@pytest.mark.parametrize("stored", [True, False])
def test_a_forget(client: Client, link: Proxy, lane: Lane, settings: Settings, stored: bool) -> None:
    for moment in Moment:
        (receipt,) = (remembered if stored else accepted)(lane, item("tea", key=moment.name))
        trap = link.cut_when(commits, moment)
        assert client.forget("ada", receipt.id).state is State.FORGOTTEN
        assert trap.count == 1
        assert client.remember("ada", "tea", key=moment.name).state is State.FORGOTTEN
    drain_all(lane)
    for table in ("memories", "jobs", lane.table):
        assert count_rows(settings, lane.cluster, table) == 0
    balance = ledger_of(lane.cluster, "acme")
    assert balance.balanced
    assert balance.events[Event.FORGOTTEN if stored else Event.DROPPED] == len(Moment)


def test_the_finish_of_what_is_remembered(
    far: tuple[Links, Settings], make_lane: MakeLane, link: Proxy, lane: Lane, shard: Shard, settings: Settings
) -> None:
    worker = make_lane(far[1])
    for moment in Moment:
        accepted(lane, item(f"tea {moment.name}"))
        _lose_the_finish(worker, shard.number, link, Kind.REMEMBER, moment)
        eventually(lambda: count_rows(settings, lane.cluster, "leases") == 0)
        assert count_rows(settings, lane.cluster, "jobs", "deaths > 0") == 0
        drain_all(lane)
    _check_each_once(lane, settings, embedded=len(Moment))


def test_the_finish_of_a_vector(
    far: tuple[Links, Settings], make_lane: MakeLane, link: Proxy, lane: Lane, shard: Shard, settings: Settings
) -> None:
    worker = make_lane(far[1])
    for moment in Moment:
        (receipt,) = remembered(lane, item("tea"))
        assert update_memory(lane, "acme", "ada", receipt.id, MemoryUpdate(content=f"coffee {moment.name}"))
        _lose_the_finish(worker, shard.number, link, Kind.EMBED, moment)
        eventually(lambda: count_rows(settings, lane.cluster, "leases") == 0)
        assert count_rows(settings, lane.cluster, "jobs", "deaths > 0") == 0
        drain_all(lane)
    _check_each_once(lane, settings, embedded=2 * len(Moment))


def _lose_the_finish(worker: Lane, number: int, link: Proxy, kind: Kind, moment: Moment) -> None:
    """Claim, and lose the connection in the statement that names the claim's lease."""
    here = worker.cluster.shard(number)
    claim = _claimed(here, kind)
    trap = link.cut_when(lambda said: claim.token.bytes in said, moment)
    with pytest.raises(Unavailable):
        drains.work_off(process_of(worker), here, claim)
    assert trap.count == 1


def _claimed(shard: Shard, kind: Kind) -> Claim:
    """A claim, as soon as the node may be written to again."""
    found: list[Claim] = []

    def claimed() -> bool:
        with suppress(Unavailable):
            found.extend(filter(None, [jobs.claim(shard, kind, Terms("lost", 30.0, 8))]))
        return bool(found)

    eventually(claimed)
    return found[0]


def _check_each_once(lane: Lane, settings: Settings, embedded: int) -> None:
    assert count_rows(settings, lane.cluster, "jobs") == 0
    for table in ("memories", "ids", lane.table):
        assert count_rows(settings, lane.cluster, table) == len(Moment)
    balance = ledger_of(lane.cluster, "acme")
    assert balance.balanced
    assert balance.events[Event.STORED] == len(Moment)
    assert balance.events[Event.EMBEDDED] == embedded
