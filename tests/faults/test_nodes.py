"""One node of two is down: its callers are told in time and try again with the same ids, the others do not notice."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from time import monotonic, sleep

import numpy as np
import pytest

from memlane import Client
from memlane.config.settings import Settings
from memlane.contract import Event, State
from memlane.errors import Unavailable
from memlane.storage import embedding_cache
from memlane.storage.embedding_cache import Cached, Text
from memlane.storage.hashing import text_hash
from memlane.tasks.lane import Lane
from memlane.workers import drains
from tests.contract.conftest import serving
from tests.faults.linked import FAULTS, Links, agent_on, answers, linked
from tests.support import (
    MakeSettings,
    accepted,
    count_rows,
    drain_all,
    eventually,
    item,
    ledger_of,
    process_of,
)

pytestmark = [pytest.mark.faults, pytest.mark.timeout(180)]

MakeLane = Callable[[Settings], Lane]

CONTROL, OTHER = "node-1", "node-2"


@pytest.fixture
def settings(make_settings: MakeSettings) -> Settings:
    """Short waits."""
    return make_settings(statement_timeout_s=1.5, lease_s=3.0, connect_timeout_s=1, pool_wait_s=1.0)


@pytest.fixture
def far(settings: Settings) -> Iterator[tuple[Links, Settings]]:
    """Links to the nodes, and the settings that lead through them."""
    with linked(settings) as made:
        yield made


def test_the_sdk_goes_on_until_the_node_is_back(
    far: tuple[Links, Settings], lane: Lane, settings: Settings, tenant_key: str
) -> None:
    """One memory, and a batch over both nodes of which one half is refused at first; what lives goes on meanwhile."""
    links, led = far
    there, gone = agent_on(lane.cluster, CONTROL), agent_on(lane.cluster, OTHER)
    with serving(led) as url, Client(url, tenant_key, retries=30) as patient, ThreadPoolExecutor(2) as pool:
        links[OTHER].cut()
        one = pool.submit(patient.remember, gone, "alone", key="k")
        batch = [{"agent": agent, "content": f"tea {n}"} for n in range(10) for agent in (there, gone)]
        many = pool.submit(patient.remember_many, batch)
        eventually(lambda: count_rows(settings, lane.cluster, "jobs") == 10)  # the half that could be taken in
        with Client(url, tenant_key, retries=0) as hasty:
            result = hasty.remember_many([{"agent": agent, "content": "not now"} for agent in (there, gone)])
            assert result.receipts[0] is not None
            assert [(rejection.index, rejection.retryable) for rejection in result.rejections] == [(1, True)]
            _goes_on(hasty, there)
        assert not one.done()
        assert not many.done()
        links[OTHER].mend()
        assert one.result(60).state is State.ACCEPTED
        assert not many.result(60).rejections
    drain_all(lane)
    assert count_rows(settings, lane.cluster, "memories") == count_rows(settings, lane.cluster, "ids") == 1 + 20 + 2
    balance = ledger_of(lane.cluster, "acme")
    assert balance.balanced
    assert balance.events[Event.ACCEPTED] == 1 + 20 + 2


def _goes_on(client: Client, agent: str) -> None:
    """An agent whose node lives is served as ever."""
    begun = monotonic()
    client.remember(agent, "meanwhile")
    client.recall(agent, "nobody asked this before")
    assert monotonic() - begun < 3


def test_without_control_those_who_know_the_key_are_served(
    far: tuple[Links, Settings], lane: Lane, tenant_key: str
) -> None:
    links, led = far
    agent = agent_on(lane.cluster, OTHER)
    with serving(led.model_copy(update={"key_cache_s": 0.1})) as url, Client(url, tenant_key, retries=0) as client:
        client.remember(agent, "tea")
        links[CONTROL].cut()
        for place in range(3):
            begun = monotonic()
            assert client.remember(agent, f"tea {place}").state is State.ACCEPTED
            assert monotonic() - begun < 3


def test_those_who_start_without_control_find_the_shards_that_live(
    far: tuple[Links, Settings], lane: Lane, make_lane: MakeLane, settings: Settings, tenant_key: str
) -> None:
    """A worker does its work there; a gateway serves as soon as it can ask whose key it is."""
    links, led = far
    there, gone = agent_on(lane.cluster, OTHER), agent_on(lane.cluster, CONTROL)
    accepted(lane, item("tea", agent=there), item("tea", agent=gone))
    links[CONTROL].cut()
    worker = make_lane(led)
    for number in range(lane.cluster.shard_count):
        drains.drain(process_of(worker), "drain.remember", number)
    assert count_rows(settings, lane.cluster, "memories") == 1
    with serving(led) as url, Client(url, tenant_key, retries=30) as client, ThreadPoolExecutor(1) as pool:
        with Client(url, tenant_key, retries=0) as hasty, pytest.raises(Unavailable):
            hasty.remember(there, "whose?")
        later = pool.submit(client.remember, there, "later")
        links[CONTROL].mend()
        assert later.result(60).state is State.ACCEPTED
    eventually(lambda: _drained(worker))
    assert count_rows(settings, lane.cluster, "memories") == 3
    assert ledger_of(lane.cluster, "acme").balanced


def _drained(worker: Lane) -> bool:
    for number in range(worker.cluster.shard_count):
        drains.drain(process_of(worker), "drain.remember", number)
    return count_rows(worker.settings, worker.cluster, "jobs") == 0


@pytest.mark.parametrize("fault", ["cut", "stalled"])
def test_a_cache_that_cannot_be_asked_costs_next_to_nothing(
    far: tuple[Links, Settings], lane: Lane, make_lane: MakeLane, fault: str
) -> None:
    """Half of all texts have their cached embedding on the node that is down; those of the other half must not wait."""
    links, led = far
    worker = make_lane(led)
    names = (f"text {number}" for number in range(1000))
    texts = (Text("acme", text_hash(name)) for name in names)
    text = next(t for t in texts if lane.cluster.shard(lane.cluster.shard_of_text("acme", t.hash)).node.name == OTHER)
    embedding_cache.keep(worker.cluster, "hash", {text: Cached(np.ones(384, np.float32))})
    FAULTS[fault](links[OTHER])
    begun = monotonic()
    for _ in range(200):
        assert embedding_cache.find(worker.cluster, "hash", [text]) == {}
        sleep(0.01)
    assert monotonic() - begun < 200 * 0.01 + embedding_cache.PATIENCE_S + 2
    links[OTHER].mend()
    shard = worker.cluster.shard(worker.cluster.shard_of_text("acme", text.hash))
    eventually(lambda: answers(shard))
    assert embedding_cache.find(worker.cluster, "hash", [text]).keys() == {text}
