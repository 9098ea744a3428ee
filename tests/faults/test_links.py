"""Links that are cut, stalled and black-holed: what needs them is refused in time, what does not goes on."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import product
from time import monotonic

import httpx
import pytest

from memlane import Client
from memlane.config.settings import Settings
from memlane.contract import State
from memlane.tasks.lane import Lane
from tests.contract.conftest import serving
from tests.faults.linked import FAULTS, PROVIDER, REDIS, Links, agent_on, linked
from tests.local import LocalProcess, WorkerProcess
from tests.processes import GatedProvider
from tests.support import accepted, count_rows, eventually, item, ledger_of

pytestmark = [pytest.mark.faults, pytest.mark.timeout(240), pytest.mark.parametrize("broker", ["redis"], indirect=True)]

BOUND_S = 6.0
"""No caller waits longer, whatever hangs: a statement's longest time, the grace after it, and a loaded machine."""


@pytest.fixture
def far(cluster_settings: Settings) -> Iterator[tuple[Links, Settings]]:
    """Links to all servers, and the settings that lead through them."""
    with linked(cluster_settings) as made:
        yield made


@contextmanager
def within(seconds: float) -> Iterator[None]:
    begun = monotonic()
    yield
    assert monotonic() - begun < seconds


def test_a_gateway_goes_on_without_redis_and_without_the_provider(
    far: tuple[Links, Settings], keys: tuple[str, str], door: Lane
) -> None:
    links, settings = far
    with serving(settings) as url, Client(url, keys[0], retries=0) as client:
        client.remember("ada", "tea")
        for name, fault in FAULTS.items():
            for down in (REDIS, PROVIDER):
                fault(links[down])
                with within(BOUND_S / 2):
                    assert client.remember("ada", f"{name} {down}").state is State.ACCEPTED
                links[down].mend()
            fault(links[PROVIDER])
            with within(settings.question_s + BOUND_S):
                assert client.recall("ada", f"never asked before: {name}").hits == ()
            links[PROVIDER].mend()
    assert count_rows(settings, door.cluster, "jobs") == 1 + 2 * len(FAULTS)


def test_a_gateway_without_a_node_refuses_in_time_and_serves_again_by_itself(
    far: tuple[Links, Settings], keys: tuple[str, str], door: Lane
) -> None:
    links, settings = far
    there, gone = agent_on(door.cluster, "node-1"), agent_on(door.cluster, "node-2")
    headers = {"Authorization": f"Bearer {keys[0]}"}
    stored = 0
    with serving(settings) as url, httpx.Client(base_url=url, headers=headers, timeout=60) as http:

        def remember(agent: str) -> httpx.Response:
            return http.post("/v1/memories", json={"agent": agent, "content": "tea"})

        for fault in FAULTS.values():
            assert {remember(agent).status_code for agent in (there, gone)} == {202}
            fault(links["node-2"])
            for _ in range(2):
                with within(BOUND_S):
                    refused = remember(gone)
                assert refused.status_code == 503
                assert int(refused.headers["retry-after"]) >= 1
                with within(BOUND_S / 2):
                    assert remember(there).status_code == 202
            links["node-2"].mend()
            eventually(lambda: remember(gone).status_code == 202)
            stored += 5
    assert count_rows(settings, door.cluster, "jobs") >= stored  # a refusal may have been done after all
    assert ledger_of(door.cluster, "acme").balanced


SCRAPE_S = 2.0
"""No scrape takes longer, whatever hangs: Prometheus waits ten seconds, and calls who takes longer down."""


@pytest.mark.parametrize("down", ["node-1", "node-2"])
def test_a_scrape_waits_for_no_node(far: tuple[Links, Settings], down: str) -> None:
    """Also the first, which may have nothing to show; and what does not answer is told to be down, and up again."""
    links, settings = far
    other = "node-2" if down == "node-1" else "node-1"
    with serving(settings) as url, httpx.Client(base_url=url, timeout=60) as http:

        def scraped() -> str:
            with within(SCRAPE_S):
                return http.get("/metrics").text

        assert http.get("/healthz").status_code == 200
        FAULTS["black-holed"](links[down])
        assert "memlane_requests_total" in scraped()
        eventually(lambda: f'memlane_node_up{{node="{down}"}} 0.0' in scraped(), 60)
        assert f'memlane_node_up{{node="{other}"}} 1.0' in scraped()
        eventually(lambda: re.search(r'memlane_shards\{state="down"\} [1-9]', scraped()) is not None, 60)
        links[down].mend()
        eventually(lambda: f'memlane_node_up{{node="{down}"}} 1.0' in scraped(), 60)
        eventually(lambda: 'memlane_shards{state="up"} 4.0' in scraped(), 60)


def test_workers_lose_a_link_and_go_on(
    far: tuple[Links, Settings],
    start_worker: Callable[..., WorkerProcess],
    beat: LocalProcess,
    door: Lane,
    cluster_settings: Settings,
    provider: tuple[GatedProvider, str],
) -> None:
    """Each fault strikes each link while jobs are held; what was given back is done when the link is whole again."""
    links, settings = far
    impatient = settings.model_copy(update={"embed_timeout_s": 2.0})
    start_worker("ingest", "memory,remember,embed", settings=impatient)
    start_worker("sweep", "sweep", 1)
    gated, _ = provider
    sent = 0
    for down, fault in product(("node-1", "node-2", REDIS, PROVIDER), FAULTS):
        gated.gate.clear()
        gated.reached.clear()
        accepted(door, *(item(f"{fault} {down} {n}", agent=f"agent-{n % 9}") for n in range(30)))
        assert gated.reached.wait(30)
        FAULTS[fault](links[down])
        gated.gate.set()
        accepted(door, *(item(f"{fault} {down} more {n}", agent=f"agent-{n % 9}") for n in range(10)))
        eventually(lambda: _nobody_holds_on(cluster_settings, door), 30)
        links[down].mend()
        sent += 40
        eventually(partial(_done, cluster_settings, door, sent), 60)
    assert beat.status == "running"
    assert count_rows(cluster_settings, door.cluster, "ids", "state = 'searchable'") == sent
    balance = ledger_of(door.cluster, "acme")
    assert balance.balanced
    assert balance.parked == 0


def _nobody_holds_on(settings: Settings, door: Lane) -> bool:
    """Whether no lease is older than what a worker may take to notice that it cannot go on."""
    return count_rows(settings, door.cluster, "leases", "created_at < now() - interval '6 seconds'") == 0


def _done(settings: Settings, door: Lane, memories: int) -> bool:
    return (
        count_rows(settings, door.cluster, door.table) == count_rows(settings, door.cluster, "memories") == memories
        and count_rows(settings, door.cluster, "jobs") == count_rows(settings, door.cluster, "leases") == 0
    )
