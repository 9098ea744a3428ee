"""A whole system of real processes around pytest-celery: brokers of both kinds, workers, a provider at a gate."""

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from threading import Event

import pytest
import redis
from pydantic import SecretStr
from pytest_celery import CeleryBrokerCluster, CeleryTestBroker, CeleryTestSetup, CeleryTestWorker, CeleryWorkerCluster
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from memlane.bench.provider import FakeProvider
from memlane.config.settings import Settings
from memlane.embedded.ports import free_port
from memlane.embedded.process import Command
from memlane.embedded.redis import Redis
from memlane.storage import tenants
from memlane.storage.migrator import migrate
from memlane.storage.roles import GATEWAY, WORKER
from memlane.tasks.embedders import model_of
from memlane.tasks.lane import Lane
from memlane.workers.app import make_app
from memlane.workers.marks import NoMarks
from memlane.workers.wakeups import Wakeups
from tests.integration.test_embedders import serving
from tests.local import LocalProcess, WorkerProcess
from tests.support import MakeSettings, as_role

RABBITMQ = Path("/usr/lib/rabbitmq/bin")
DIMS = 16
CI = os.environ.get("CI") == "true"


class GatedProvider(FakeProvider):
    """A provider whose gate a test opens and closes."""

    def __init__(self) -> None:
        super().__init__(0, DIMS)
        self.gate = Event()
        self.gate.set()
        self.reached = Event()
        self.texts: list[str] = []

    def gated(self) -> Starlette:
        """The endpoint, behind the gate."""

        async def embed(request: Request) -> Response:
            self.texts += json.loads(await request.body())["input"]
            self.reached.set()
            await run_in_threadpool(self.gate.wait, 60)
            return await self._embed(request)

        return Starlette(routes=[Route("/v1/embeddings", embed, methods=["POST"])])


@pytest.fixture
def provider() -> Iterator[tuple[GatedProvider, str]]:
    """A provider with a gate, and its URL."""
    made = GatedProvider()
    with serving(made.gated()) as url:
        yield made, url
        made.gate.set()


@pytest.fixture
def process_folder(server_folder: Path) -> Path:
    """Where this test's processes log."""
    folder = server_folder / secrets.token_hex(4)
    folder.mkdir()
    return folder


@dataclass(frozen=True, slots=True)
class RabbitMQ:
    """A RabbitMQ server, and rabbitmqctl for it: whether a command went well."""

    process: LocalProcess
    port: int
    control: Callable[..., bool]

    def vhost(self, name: str) -> str:
        """Make a virtual host; its URL."""
        assert self.control("add_vhost", name)
        assert self.control("set_permissions", "-p", name, "guest", ".*", ".*", ".*")
        return f"amqp://guest:guest@127.0.0.1:{self.port}/{name}"


@pytest.fixture(scope="session")
def rabbitmq(server_folder: Path) -> Iterator[RabbitMQ]:
    """A RabbitMQ server."""
    if not (RABBITMQ / "rabbitmq-server").exists():
        message = "RabbitMQ is not installed (Debian's package rabbitmq-server)"
        pytest.fail(message) if CI else pytest.skip(message)
    with rabbitmq_server(server_folder) as server:
        yield server


@contextmanager
def rabbitmq_server(parent: Path) -> Iterator[RabbitMQ]:
    """A RabbitMQ server in a folder."""
    folder = parent / "rabbitmq"
    folder.mkdir()
    port = free_port()
    environment = {
        "HOME": str(folder),
        "RABBITMQ_NODENAME": f"memlane{port}@localhost",
        "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODE_PORT": str(port),
        "RABBITMQ_DIST_PORT": str(free_port()),
        "ERL_EPMD_PORT": str(free_port()),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
        "RABBITMQ_LOG_BASE": str(folder / "log"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
        "RABBITMQ_CONF_ENV_FILE": str(folder / "env.conf"),
        "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
    }

    def control(*arguments: str) -> bool:
        command = [str(RABBITMQ / "rabbitmqctl"), *arguments]
        return not subprocess.run(
            command, env={**os.environ, **environment}, capture_output=True, check=False
        ).returncode

    server = LocalProcess(
        Command("rabbitmq", [str(RABBITMQ / "rabbitmq-server")], environment),
        folder / "server.log",
        lambda: control("await_startup"),
        {},
    ).start()

    yield RabbitMQ(server, port, control)
    server.kill(signal.SIGTERM)
    server.wait()
    epmd = shutil.which("epmd")
    if epmd:
        subprocess.run([epmd, "-kill"], env={**os.environ, **environment}, capture_output=True, check=False)


@pytest.fixture(params=["redis", pytest.param("rabbitmq", marks=pytest.mark.rabbitmq)])
def broker(request: pytest.FixtureRequest, process_folder: Path) -> Iterator[LocalProcess | str]:
    """A broker of each kind: a Redis of this test's own, or a virtual host."""
    if request.param == "rabbitmq":
        yield request.getfixturevalue("rabbitmq").vhost(secrets.token_hex(4))
        return
    server = Redis(process_folder / "redis", free_port(), "test")
    server.prepare()

    def answers() -> bool:
        try:
            with redis.Redis.from_url(server.uri(), socket_timeout=1) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False

    made = LocalProcess(server.command(), process_folder / "redis.log", answers, _urls(server.uri())).start()
    yield made
    made.teardown()


def _urls(url: str) -> dict[str, str]:
    return {"url": url, "host_url": url}


@pytest.fixture
def broker_url(broker: LocalProcess | str) -> str:
    """Where the broker is."""
    return broker if isinstance(broker, str) else str(broker.celeryconfig["url"])


@pytest.fixture
def celery_broker_cluster(broker: LocalProcess | str, process_folder: Path) -> Iterator[CeleryBrokerCluster]:
    """pytest-celery's broker, without a container."""
    if isinstance(broker, str):
        stand_in = Command("rabbitmq", [sys.executable, "-c", "import time; time.sleep(600)"])
        node = LocalProcess(stand_in, process_folder / "rabbitmq.log", lambda: True, _urls(broker)).start()
    else:
        node = broker
    yield CeleryBrokerCluster(CeleryTestBroker(node))
    node.teardown()


@pytest.fixture
def celery_backend_cluster() -> None:
    """There is no result backend: states live in Postgres."""


@pytest.fixture
def cluster_settings(make_settings: MakeSettings, broker_url: str, provider: tuple[GatedProvider, str]) -> Settings:
    """The settings of the test's cluster, with short waits."""
    settings = make_settings(
        broker_url=broker_url,
        redis_url=broker_url if broker_url.startswith("redis") else None,
        embedder="openai",
        openai_base_url=provider[1],
        openai_dims=DIMS,
        lease_s=2.0,
        statement_timeout_s=1.5,
        sweep_every_s=1.0,
        stop_grace_s=1.0,
        embed_timeout_s=60.0,
        claim_size=50,
    )
    migrate(settings, model_of(settings))
    return settings


def environment(settings: Settings) -> dict[str, str]:
    """Settings as a process of ours reads them."""
    given = settings.model_dump(exclude_unset=True)
    given["nodes"] = json.dumps({name: uri.get_secret_value() for name, uri in settings.nodes.items()})
    if "alert_urls" in given:
        given["alert_urls"] = json.dumps([url.get_secret_value() for url in settings.alert_urls])
    read = {name: value.get_secret_value() if isinstance(value, SecretStr) else value for name, value in given.items()}
    return {f"MEMLANE_{name.upper()}": str(value) for name, value in read.items() if value is not None}


@pytest.fixture
def start_worker(cluster_settings: Settings, process_folder: Path) -> Iterator[Callable[..., WorkerProcess]]:
    """Starts worker processes of a class, with the workers' rights; they are ended with the test."""
    made: list[WorkerProcess] = []

    def start(
        worker_class: str,
        queues: str,
        processes: int = 2,
        settings: Settings = cluster_settings,
        app: str = "memlane.workers.main",
    ) -> WorkerProcess:
        name = f"{worker_class}-{len(made)}"
        ready = process_folder / f"{name}.ready"
        arguments = [
            *("-m", "celery", "-A", app, "--quiet", "worker", "--queues", queues),
            *("--concurrency", str(processes), "--hostname", f"{name}@%h"),
            *("--without-gossip", "--without-mingle"),
        ]
        env = {
            **environment(as_role(settings, WORKER)),
            "MEMLANE_WORKER_CLASS": worker_class,
            "MEMLANE_READY_FILE": str(ready),
        }
        command = Command(name, [sys.executable, *arguments], env)
        made.append(WorkerProcess(command, process_folder / f"{name}.log", ready.exists, {}))
        made[-1].start()
        return made[-1]

    yield start
    for worker in made:
        worker.teardown()


@pytest.fixture
def celery_worker_cluster(start_worker: Callable[..., WorkerProcess]) -> Iterator[CeleryWorkerCluster]:
    """Two ingest workers and one that sweeps, as pytest-celery's cluster."""
    workers = [
        start_worker("ingest", "memory,remember,embed"),
        start_worker("ingest", "memory,remember,embed"),
        start_worker("sweep", "sweep", 1),
    ]
    yield CeleryWorkerCluster(*(CeleryTestWorker(worker, app=None) for worker in workers))
    for worker in workers:
        worker.teardown()


@pytest.fixture
def system(celery_setup: CeleryTestSetup) -> CeleryTestSetup:
    """Broker and workers, ready."""
    return celery_setup


@pytest.fixture
def start_beat(cluster_settings: Settings, process_folder: Path) -> Iterator[Callable[[], LocalProcess]]:
    """Starts beats; they are ended with the test."""
    made: list[LocalProcess] = []

    def start() -> LocalProcess:
        name = f"beat-{len(made)}"
        ready = process_folder / f"{name}.ready"
        env = {**environment(as_role(cluster_settings, WORKER)), "MEMLANE_READY_FILE": str(ready)}
        argv = [sys.executable, "-m", "celery", "-A", "memlane.workers.main", "--quiet", "beat"]
        made.append(LocalProcess(Command(name, argv, env), process_folder / f"{name}.log", ready.exists, {}))
        return made[-1].start()

    yield start
    for beat in made:
        beat.teardown()


@pytest.fixture
def beat(start_beat: Callable[[], LocalProcess]) -> LocalProcess:
    """One beat."""
    return start_beat()


@pytest.fixture
def gateway(cluster_settings: Settings, process_folder: Path) -> Iterator[str]:
    """A gateway process, with the gateway's rights; its URL."""
    ready, port = process_folder / "gateway.ready", free_port()
    limited = environment(as_role(cluster_settings, GATEWAY))
    env = {**limited, "MEMLANE_READY_FILE": str(ready), "MEMLANE_PORT": str(port)}
    command = Command("gateway", [sys.executable, "-m", "memlane.gateway"], env)
    made = LocalProcess(command, process_folder / "gateway.log", ready.exists, {}).start()
    yield f"http://127.0.0.1:{port}"
    made.teardown()


@pytest.fixture
def keys(door: Lane) -> tuple[str, str]:
    """A key of tenant `acme`, and an admin key."""
    control = door.cluster.control
    tenants.create_tenant(control, "acme")
    return tenants.create_key(control, "acme"), tenants.create_key(control, None)


@pytest.fixture
def door(cluster_settings: Settings) -> Iterator[Lane]:
    """A lane that wakes the real workers."""
    lane = Lane(cluster_settings, "test", Wakeups(make_app(cluster_settings), NoMarks()))
    lane.open()
    yield lane
    lane.close()


def has_package(name: str) -> bool:
    """Whether a package is installed."""
    return find_spec(name) is not None
