"""An outage is no death: however often it strikes the same jobs, they are not suspected, and never parked."""

from collections.abc import Callable, Iterator
from threading import Thread
from time import sleep

import pytest
from pydantic import SecretStr

from memlane.config.settings import Settings
from memlane.errors import Unavailable
from memlane.storage import jobs, leases
from memlane.storage.cluster import Shard
from memlane.storage.jobs import Kind, Terms
from memlane.tasks.lane import Lane
from memlane.workers import drains
from memlane.workers.drains import Process
from memlane.workers.returns import Returns
from tests.proxy import Moment, Proxy
from tests.support import MakeSettings, accepted, count_rows, drain_all, eventually, item, ledger_of, process_of

pytestmark = pytest.mark.faults

OUTAGES = 6
"""Half as many again as the deaths at which a job would be parked."""


@pytest.fixture
def settings(make_settings: MakeSettings) -> Settings:
    """Short waits, and few deaths until a job is parked."""
    return make_settings(pool_wait_s=0.3, connect_timeout_s=1, claim_size=8, deaths_alone=1)


@pytest.fixture
def link(settings: Settings, shard: Shard) -> Iterator[tuple[Proxy, Settings]]:
    """What is between the shard's node and those who use these settings."""
    node = shard.node.name
    proxy, url = Proxy.before(settings.nodes[node].get_secret_value())
    with proxy:
        yield proxy, settings.model_copy(update={"nodes": {**settings.nodes, node: SecretStr(url)}})


@pytest.fixture
def far(link: tuple[Proxy, Settings], make_lane: Callable[[Settings], Lane]) -> Lane:
    """A worker's lane behind the proxy; `lane` and the sweep go straight to the server."""
    return make_lane(link[1])


def expire(lane: Lane, shard: Shard) -> tuple[int, int]:
    return leases.expire(shard, lane.settings.claim_size, lane.settings.deaths_alone)


def test_a_node_that_is_lost_in_each_drain_suspects_nobody(
    lane: Lane, far: Lane, link: tuple[Proxy, Settings], settings: Settings, shard: Shard
) -> None:
    """The link breaks under the work, the lease runs out while the worker cannot give it back, and so on."""
    proxy, _ = link
    accepted(lane, *(item(f"tea {n}") for n in range(5)))
    process = process_of(far)
    for _ in range(OUTAGES):
        _lose_the_finish(process, proxy, shard)
        eventually(lambda: expire(lane, shard)[0] == 5)
        assert count_rows(settings, lane.cluster, "jobs", "deaths = 1") == 5
        proxy.mend()
        eventually(lambda: count_rows(settings, lane.cluster, "jobs", "deaths = 0 AND lease IS NULL") == 5)
    assert count_rows(settings, lane.cluster, "jobs", "parked_at IS NOT NULL") == 0
    drain_all(far)
    assert count_rows(settings, lane.cluster, "memories") == 5
    assert ledger_of(lane.cluster, "acme").balanced


def _lose_the_finish(process: Process, proxy: Proxy, shard: Shard) -> None:
    """Claim, and lose the node before the finish has reached it."""
    far = process.lane.cluster
    claim = jobs.claim(far.shard(shard.number), Kind.REMEMBER, Terms(process.holder, 0.1, 8))
    assert claim is not None
    proxy.cut()
    with pytest.raises(Unavailable):
        drains.work_off(process, far.shard(shard.number), claim)


def test_a_claim_whose_answer_was_lost_suspects_nobody(
    lane: Lane, far: Lane, link: tuple[Proxy, Settings], settings: Settings, shard: Shard
) -> None:
    """The node has committed the claim, and is gone for longer than the lease before it could say so."""
    proxy, _ = link
    accepted(lane, *(item(f"tea {n}") for n in range(5)))
    far.cluster.shard(shard.number).ping()
    claiming = b"memlane-claim"
    trap = proxy.cut_when(lambda said: claiming in said, Moment.ANSWERED)
    returns = Returns(far.cluster, 0.1)
    with pytest.raises(Unavailable):
        jobs.claim(
            far.cluster.shard(shard.number),
            Kind.REMEMBER,
            Terms(claiming.decode(), 0.1, 8, lambda *lost: _while_cut(proxy, returns, *lost)),
        )
    assert trap.count == 1
    assert count_rows(settings, lane.cluster, "jobs", "lease IS NOT NULL") == 5
    eventually(lambda: expire(lane, shard)[0] == 5)
    assert count_rows(settings, lane.cluster, "jobs", "deaths = 1") == 5
    proxy.mend()
    eventually(lambda: count_rows(settings, lane.cluster, "jobs", "deaths = 0") == 5)


def _while_cut(proxy: Proxy, returns: Returns, shard: Shard, token: object) -> None:
    proxy.cut()
    returns.give_back_unseen(shard, token)  # type: ignore[arg-type]  # a UUID


def test_a_drain_does_not_wait_for_a_node_that_is_down(
    lane: Lane, far: Lane, link: tuple[Proxy, Settings], shard: Shard
) -> None:
    """What it holds there is given back by somebody else, as soon as the node answers."""
    proxy, _ = link
    accepted(lane, item())
    returns = Returns(far.cluster, 0.1)
    here = far.cluster.shard(shard.number)
    claim = jobs.claim(here, Kind.REMEMBER, Terms("somebody", 60.0, 8))
    assert claim is not None
    proxy.cut()
    thread = Thread(target=lambda: returns.give_back(here, claim))
    thread.start()
    thread.join(5)
    assert not thread.is_alive()
    sleep(0.3)
    assert leases.renew(shard, claim.token, 60.0)
    proxy.mend()
    eventually(lambda: not leases.renew(shard, claim.token, 60.0))
    assert jobs.claim(shard, Kind.REMEMBER, Terms("another", 60.0, 8)) is not None
