"""SIGTERM to each process while it works: it finishes or gives back, in time, and nobody loses anything."""

import json
import signal
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from threading import Event
from time import monotonic
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import pytest

from memlane import Client
from memlane.config.settings import Settings
from memlane.contract import State
from memlane.embedded.ports import free_port
from memlane.embedded.process import Command
from memlane.storage import processes
from memlane.storage.roles import GATEWAY
from memlane.tasks import forget, optimize
from memlane.tasks.lane import Lane
from memlane.tasks.pulse import BEAT
from memlane.workers.app import make_app
from tests.local import LocalProcess, WorkerProcess
from tests.processes import environment
from tests.support import accepted, as_role, count_rows, eventually, item, ledger_of, remembered

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(300)]

redis_only = pytest.mark.parametrize("broker", ["redis"], indirect=True)

SOON_S = 20.0
"""How long an end may take on a loaded machine, beyond the grace."""


@pytest.fixture
def doorman(cluster_settings: Settings, process_folder: Path) -> Iterator[LocalProcess]:
    """A gateway process that can be stopped and started again at the same port."""
    ready, port = process_folder / "doorman.ready", free_port()
    env = {
        **environment(as_role(cluster_settings, GATEWAY)),
        "MEMLANE_READY_FILE": str(ready),
        "MEMLANE_PORT": str(port),
    }
    url = f"http://127.0.0.1:{port}"

    def serves() -> bool:
        try:
            return httpx.get(f"{url}/healthz").status_code == 200
        except httpx.TransportError:
            return False

    command = Command("doorman", [sys.executable, "-m", "memlane.gateway"], env)
    made = LocalProcess(command, process_folder / "doorman.log", serves, {"url": url}).start()
    yield made
    made.teardown()


def ends(process: LocalProcess, settings: Settings) -> None:
    """A process ends by SIGTERM in good order, and in time."""
    begun = monotonic()
    process.kill(signal.SIGTERM)
    assert process.wait(120) == 0, process.logs()[-3000:]
    assert monotonic() - begun < settings.stop_grace_s + SOON_S
    assert "Traceback" not in process.logs(), process.logs()[-5000:]


@redis_only
def test_a_gateway_answers_what_it_took(
    doorman: LocalProcess, cluster_settings: Settings, door: Lane, keys: tuple[str, str]
) -> None:
    """Whoever waits is told at once how far it is; what was being taken in is, and is answered whole."""
    url = doorman.celeryconfig["url"]
    headers = {"Authorization": f"Bearer {keys[0]}"}
    stop, taken = Event(), set[str]()

    def waits(id_: str) -> tuple[int, str]:
        answer = httpx.get(
            f"{url}/v1/receipts/ada/{id_}", params={"wait": "stored", "timeout": 60}, headers=headers, timeout=90
        )
        return answer.status_code, answer.json()["state"]

    def hands_over(number: int) -> None:
        with httpx.Client(base_url=url, headers=headers, timeout=60) as client:
            while not stop.is_set():
                try:
                    answer = client.post("/v1/memories", json={"agent": f"a{number}", "content": f"tea {uuid4()}"})
                except (httpx.ConnectError, httpx.ReadError, httpx.WriteError):
                    return
                except httpx.RemoteProtocolError as error:
                    said = str(error)
                    break
                assert answer.status_code == 202, answer.text
                taken.add(answer.json()["id"])
            else:
                return
            assert "without sending a response" in said, said  # never with half of one

    first = httpx.post(
        f"{url}/v1/memories", json={"agent": "ada", "content": "tea"}, headers=headers, timeout=60
    ).json()
    with ThreadPoolExecutor(40) as pool, closing(HTTPConnection("127.0.0.1", urlsplit(url).port, 60)) as idle:
        idle.request("GET", "/healthz")
        assert json.loads(idle.getresponse().read()) == {"status": "alive"}
        waiting = [pool.submit(waits, first["id"]) for _ in range(20)]
        busy = [pool.submit(hands_over, number) for number in range(6)]
        eventually(lambda: len(taken) > 30, 60)
        ends(doorman, cluster_settings)
        stop.set()
        assert {one.result(60) for one in waiting} == {(200, "accepted")}
        for one in busy:
            one.result(60)
        assert idle.sock.recv(1) == b""
    ids = ", ".join(f"'{id_}'" for id_ in taken)
    assert count_rows(cluster_settings, door.cluster, "jobs", f"id IN ({ids})") == len(taken)
    assert ledger_of(door.cluster, "acme").balanced


def load(kind: str, door: Lane, settings: Settings) -> Callable[[], bool]:
    """Work for a class of workers; tells whether all of it is done."""
    app = make_app(settings)
    agents = [f"agent-{n}" for n in range(12)]
    if kind == "ingest":
        accepted(door, *(item(f"memory {n}", agents[n % 12]) for n in range(1000)))
        return lambda: count_rows(settings, door.cluster, "memories") == 1000
    if kind == "sweep":
        for _ in range(50):
            app.send_task("beat.sweep")
        return lambda: True
    remembered(door, *(item(f"memory {n}", agents[n % 12]) for n in range(240)))
    for agent in agents:
        assert (forget.forget_agent if kind == "maintenance" else optimize.request)(door, "acme", agent)
    return lambda: count_rows(settings, door.cluster, "jobs") == 0


@redis_only
@pytest.mark.parametrize(
    ("kind", "queues"),
    [
        ("ingest", "memory,remember,embed"),
        ("maintenance", "maintenance"),
        ("upkeep", "optimize"),
        ("sweep", "sweep"),
    ],
)
def test_a_worker_ends_with_nothing_held(
    start_worker: Callable[..., WorkerProcess], cluster_settings: Settings, door: Lane, kind: str, queues: str
) -> None:
    settings = cluster_settings
    worker = start_worker(kind, queues)
    done = load(kind, door, settings)
    if kind == "ingest":
        eventually(lambda: count_rows(settings, door.cluster, "memories") > 0, 60)
    ends(worker, settings)
    assert count_rows(settings, door.cluster, "leases") == 0
    assert count_rows(settings, door.cluster, "jobs", "lease IS NOT NULL OR deaths > 0") == 0
    start_worker(kind, queues)
    for task in ("drain.remember", "drain.forget", "drain.optimize"):  # what the sweep does
        for shard in door.cluster.shards():
            make_app(settings).send_task(task, args=(shard.number,))
    eventually(done, 90)
    assert ledger_of(door.cluster, "acme").balanced


@redis_only
def test_a_beat_ends(beat: LocalProcess, cluster_settings: Settings) -> None:
    ends(beat, cluster_settings)


@redis_only
def test_a_beat_that_ends_in_good_order_is_not_missed(
    beat: LocalProcess,
    start_beat: Callable[[], LocalProcess],
    start_worker: Callable[..., WorkerProcess],
    cluster_settings: Settings,
    door: Lane,
) -> None:
    def beats() -> list[str]:
        return [process.name for process in processes.living(door.cluster.control) if process.class_ == BEAT]

    start_beat()
    start_worker("sweep", "sweep", 1)
    eventually(lambda: len(beats()) == 2, 60)
    ends(beat, cluster_settings)
    eventually(lambda: len(beats()) == 1, cluster_settings.lost_s / 2)


@redis_only
def test_flower_ends_while_somebody_looks(cluster_settings: Settings, process_folder: Path) -> None:
    ready, port = process_folder / "flower.ready", free_port()
    env = {
        **environment(cluster_settings),
        "MEMLANE_READY_FILE": str(ready),
        "MEMLANE_FLOWER_PORT": str(port),
        "MEMLANE_FLOWER_DB": str(process_folder / "flower" / "state"),
    }
    command = Command("flower", [sys.executable, "-m", "memlane.workers.flower"], env)
    flower = LocalProcess(command, process_folder / "flower.log", ready.exists, {}).start()
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            assert client.get("/").status_code == 200  # and keeps its connection
            ends(flower, cluster_settings)
    finally:
        flower.teardown()


@contextmanager
def under_load(url: str, key: str) -> Iterator[list[str]]:
    """Agent apps that remember, wait and recall for the time of the block; the contents that they were promised."""
    stop, kept = Event(), list[str]()

    def works(number: int) -> None:
        agent = f"agent-{number}"
        with Client(url, key, retries=12, timeout=60) as client:
            while not stop.is_set():
                content = f"tea {uuid4()}"
                receipt = client.remember(agent, content)
                kept.append(content)
                receipt.wait("searchable", timeout=120)
                assert content in {hit.memory.content for hit in client.recall(agent, content, limit=5)}

    with ThreadPoolExecutor(4) as pool:
        working = [pool.submit(works, number) for number in range(4)]
        yield kept
        stop.set()
        for one in working:
            one.result(150)


@redis_only
def test_a_rolling_restart_is_not_noticed(
    doorman: LocalProcess,
    start_worker: Callable[..., WorkerProcess],
    beat: LocalProcess,
    cluster_settings: Settings,
    door: Lane,
    keys: tuple[str, str],
) -> None:
    """Gateway and workers one after the other: the SDK sends again what met nobody, with the same ids."""
    workers = [start_worker("ingest", "memory,remember,embed") for _ in range(2)]
    sweep = start_worker("sweep", "sweep", 1)
    with under_load(doorman.celeryconfig["url"], keys[0]) as kept:
        eventually(lambda: len(kept) > 20, 60)
        for process in (doorman, *workers, sweep, beat):
            ends(process, cluster_settings)
            process.start()
            before = len(kept)
            eventually(lambda before=before: len(kept) > before + 20, 90)  # type: ignore[misc]
    with Client(doorman.celeryconfig["url"], keys[0]) as client:
        found = [memory.content for n in range(4) for memory in client.memories(f"agent-{n}")]
    assert sorted(found) == sorted(kept)
    ledger = ledger_of(door.cluster, "acme")
    assert ledger.balanced
    assert (ledger.open, ledger.parked) == (0, 0)
    assert count_rows(cluster_settings, door.cluster, "leases") == 0
    assert {receipt.state for receipt in accepted(door, item("one more"))} == {State.ACCEPTED}
