"""What is killed is told within a minute, and that it is over within another; one that hangs hides nobody."""

import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic

import httpx
import psycopg
import pytest

from memlane.beat.duties import due
from memlane.config.settings import Settings
from memlane.contract.health import Band, Health
from memlane.embedded.ports import free_port
from memlane.embedded.postgres import Postgres
from memlane.embedded.redis import Redis
from memlane.errors import Unavailable
from memlane.storage import reports, tenants
from memlane.storage.migrator import migrate
from memlane.storage.roles import ROLES
from memlane.tasks.embedders import model_of
from memlane.tasks.health.look import look
from memlane.tasks.lane import Lane
from memlane.workers.app import make_app
from memlane.workers.broker import broker_status
from tests.conftest import make
from tests.contract.conftest import serving
from tests.faults.linked import REDIS, Links, linked
from tests.local import LocalProcess, WorkerProcess
from tests.money import Webhook, webhook
from tests.processes import DIMS, GatedProvider
from tests.support import ROLE_PASSWORD, MakeSettings, eventually

pytestmark = [
    pytest.mark.faults,
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning"),
]

log = logging.getLogger(__name__)

LOOK_S = 2.0
"""A whole look takes no longer, whatever hangs."""

TOLD_S = 60.0
"""Within this time it is told."""


# --- one that hangs -----------------------------------------------------------------------


@pytest.fixture
def far(make_settings: MakeSettings, redis_server: Redis) -> Iterator[tuple[Links, Settings]]:
    """Links to all servers, and the settings that lead through them."""
    with linked(make_settings(broker_url=redis_server.uri(0))) as made:
        yield made


@pytest.fixture
def looker(far: tuple[Links, Settings]) -> Iterator[Lane]:
    """Who looks through the links."""
    settings = far[1]
    lane, app = Lane(settings, "test"), make_app(settings)
    lane.ask_broker = lambda: broker_status(app, settings.broker_url.get_secret_value())
    lane.open()
    yield lane
    lane.close()


def looked(lane: Lane) -> tuple[Health, float]:
    """A look, and how long it took in seconds."""
    begun = monotonic()
    health = look(lane, due(lane.settings)).health
    return health, monotonic() - begun


def critical(health: Health) -> set[str]:
    """What is critical, but for the processes, of which there are none here."""
    parts = [part for part in health.components if part.name != "processes"]
    return {one.subject for part in parts if part.band is Band.CRITICAL for one in part.findings}


SUBJECTS = {"node-1": "node node-1", "node-2": "node node-2", REDIS: "broker"}


@pytest.mark.parametrize("accepting", [True, False], ids=["accepting", "swallowing"])
@pytest.mark.parametrize("down", SUBJECTS)
def test_one_that_hangs_hides_no_other(far: tuple[Links, Settings], looker: Lane, down: str, accepting: bool) -> None:
    links, _ = far
    eventually(lambda: critical(looked(looker)[0]) == set())
    links[down].black_hole(accepting=accepting)
    slowest = 0.0
    for _ in range(3):
        health, took_s = looked(looker)
        slowest = max(slowest, took_s)
        assert critical(health) == {SUBJECTS[down]}
    log.warning("%s hangs: a look took %.2f s at most", down, slowest)
    assert slowest < LOOK_S
    threads = [thread.name for thread in threading.enumerate() if thread.name.startswith("look ")]
    assert len(threads) == len(set(threads))  # nobody is asked again while he hangs
    links[down].mend()
    eventually(lambda: critical(looked(looker)[0]) == set(), 30)


@pytest.mark.parametrize("down", SUBJECTS)
def test_the_gateway_answers_in_time(far: tuple[Links, Settings], looker: Lane, down: str) -> None:
    links, settings = far
    headers = {"Authorization": f"Bearer {tenants.create_key(looker.cluster.control, None)}"}
    with serving(settings) as url, httpx.Client(base_url=url, headers=headers, timeout=30) as http:
        assert http.get("/v1/health").status_code == 200
        links[down].black_hole()

        def asked() -> set[str]:
            begun = monotonic()
            found = http.get("/v1/health").json()
            assert monotonic() - begun < LOOK_S + 1  # a loaded machine; the look itself says how long it took
            assert found["took_ms"] < LOOK_S * 1000
            return {one["subject"] for part in found["components"] for one in part.get("findings", [])}

        eventually(lambda: SUBJECTS[down] in asked())
        for _ in range(3):
            asked()
        links[down].mend()


# --- those that are killed ----------------------------------------------------------------


class Node:
    """A Postgres server of this test's own."""

    def __init__(self, name: str, folder: Path) -> None:
        self.server = Postgres(name, folder / name, free_port(), "test", {})
        self.server.prepare()
        self.process = LocalProcess(self.server.command(), folder / f"{name}.log", self.answers, {})
        self.process.start()

    def answers(self) -> bool:
        try:
            with psycopg.connect(self.server.uri("postgres"), connect_timeout=2):
                return True
        except psycopg.OperationalError:
            return False

    def end(self) -> None:
        """As a crash: at once, without a farewell."""
        self.process.kill(signal.SIGQUIT)
        self.process.wait()


@pytest.fixture
def hook() -> Iterator[Webhook]:
    with webhook() as made:
        yield made


@pytest.fixture
def nodes(process_folder: Path) -> Iterator[dict[str, Node]]:
    """Two servers; the first has control."""
    process_folder.chmod(0o711)
    made = {name: Node(name, process_folder) for name in ("node-1", "node-2")}
    yield made
    for node in made.values():
        node.process.teardown()


@pytest.fixture
def cluster_settings(
    nodes: dict[str, Node], broker_url: str, provider: tuple[GatedProvider, str], hook: Webhook
) -> Settings:
    """As other tests', on these servers, with a channel; looked at often."""
    settings = make(
        nodes["node-1"].server,
        dict.fromkeys(nodes, "postgres"),
        broker_url=broker_url,
        redis_url=broker_url,
        embedder="openai",
        openai_base_url=provider[1],
        openai_dims=DIMS,
        sweep_every_s=1.0,
        stop_grace_s=1.0,
        alert_urls=(hook.url,),
        **TIMES,
    )
    uris = {name: node.server.uri("postgres") for name, node in nodes.items()}
    settings = Settings(**{**settings.model_dump(exclude_unset=True), "nodes": uris})
    migrate(settings, model_of(settings))
    for uri in uris.values():
        with psycopg.connect(uri, autocommit=True) as connection:
            for role in ROLES:
                connection.execute(f"ALTER ROLE {role} LOGIN PASSWORD '{ROLE_PASSWORD}'".encode())
    return settings


TIMES = {"health_every_s": 5, "watchdog_s": 12.0, "pulse_s": 1.0, "lost_s": 4.0}
"""Shorter than by default; `MEMLANE_TEST_DEFAULT_TIMES=1` leaves the defaults."""

if os.environ.get("MEMLANE_TEST_DEFAULT_TIMES"):
    TIMES = {}


class Said:
    """What the channel is told, and how long after it happened."""

    def __init__(self, hook: Webhook) -> None:
        self._hook = hook

    def titles(self) -> list[str]:
        return [message["title"] for message in self._hook.messages]

    def waits_for(self, what: str) -> None:
        begun = monotonic()
        eventually(lambda: any(title.startswith(what) for title in self.titles()), TOLD_S)
        log.warning("told after %.1f s: %s", monotonic() - begun, what)


class Shown:
    """What /v1/health, which the doctor reads out, and /metrics show."""

    def __init__(self, gateway: str, key: str) -> None:
        self._url = gateway
        self._headers = {"Authorization": f"Bearer {key}"}

    def critical(self, subject: str) -> bool:
        """Whether that is what is wrong, by /v1/health."""
        found = httpx.get(f"{self._url}/v1/health", headers=self._headers, timeout=30).json()
        findings = [one for part in found["components"] for one in part.get("findings", [])]
        return any(one["subject"] == subject and one["severity"] == "critical" for one in findings)

    def series(self, name: str) -> float | None:
        """The value of a series on /metrics; None if it is not told."""
        lines = httpx.get(f"{self._url}/metrics", timeout=30).text.splitlines()
        return next((float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{name} ")), None)

    def waits_for(self, subject: str, series: str, bad: Callable[[float | None], bool]) -> None:
        """Both show it."""
        eventually(lambda: self.critical(subject), TOLD_S)
        eventually(lambda: bad(self.series(series)), TOLD_S)

    def clears(self, subject: str, series: str, bad: Callable[[float | None], bool]) -> None:
        """Neither shows it any more."""
        eventually(lambda: not self.critical(subject), TOLD_S)
        eventually(lambda: not bad(self.series(series)), TOLD_S)


@pytest.mark.parametrize("broker", ["redis"], indirect=True)
def test_what_is_killed_is_told_and_that_it_is_over(
    nodes: dict[str, Node],
    broker: LocalProcess,
    start_worker: Callable[..., WorkerProcess],
    start_beat: Callable[[], LocalProcess],
    gateway: str,
    hook: Webhook,
    door: Lane,
) -> None:
    ingest = start_worker("ingest", "memory,remember,embed")
    for class_, queues in (("sweep", "sweep"), ("maintenance", "maintenance"), ("upkeep", "optimize")):
        start_worker(class_, queues, 1)
    start_beat()
    said, shown = Said(hook), Shown(gateway, tenants.create_key(door.cluster.control, None))
    eventually(lambda: _well(door), 120)
    hook.messages.clear()

    broker.kill()
    said.waits_for("memlane: critical: broker")
    shown.waits_for("broker", 'memlane_health_score{component="broker"}', _low)
    broker.start()
    said.waits_for("memlane: over: broker")
    shown.clears("broker", 'memlane_health_score{component="broker"}', _low)

    for name in ("node-2", "node-1"):
        nodes[name].end()
        said.waits_for(f"memlane: critical: node {name}")
        shown.waits_for(f"node {name}", f'memlane_node_up{{node="{name}"}}', lambda value: value == 0)
        nodes[name].process.start()
        said.waits_for(f"memlane: over: node {name}")
        shown.clears(f"node {name}", f'memlane_node_up{{node="{name}"}}', lambda value: value == 0)

    eventually(lambda: _well(door), 120)
    os.killpg(ingest.pid, signal.SIGKILL)
    ingest.wait()
    said.waits_for("memlane: critical: ingest processes")
    shown.waits_for("ingest processes", 'memlane_processes{class="ingest"}', lambda value: not value)
    start_worker("ingest", "memory,remember,embed")
    said.waits_for("memlane: over: ingest processes")
    shown.clears("ingest processes", 'memlane_processes{class="ingest"}', lambda value: not value)

    assert httpx.get(f"{gateway}/healthz").status_code == 200
    told = [title for title in said.titles() if title.startswith("memlane: critical: ")]
    assert [title.split(": ")[2] for title in told] == ["broker", "node node-2", "node node-1", "ingest processes"]
    for subject in ("broker", "node node-2", "node node-1", "ingest processes"):
        assert said.titles().count(f"memlane: over: {subject}") == 1, said.titles()


def _low(score: float | None) -> bool:
    return score is not None and score < 30


def _well(door: Lane) -> bool:
    """Whether the last look found nothing critical."""
    try:
        last = reports.newest(door.cluster.control)
    except Unavailable:  # it may be just coming back
        return False
    return (
        last is not None and last.age_s < 60 and all(part.band is not Band.CRITICAL for part in last.health.components)
    )
