"""A whole memlane of real processes that can be harmed in every part: two nodes, a broker, workers, beats, a gateway.

Between the processes and their servers there are proxies, so that a link can fail while both its ends live.
"""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit
from uuid import UUID

import httpx
import psycopg
import redis
from psycopg.conninfo import make_conninfo

from memlane.config.settings import Settings, load_settings
from memlane.contract.memory import key_id
from memlane.embedded.ports import free_port
from memlane.embedded.postgres import Postgres
from memlane.embedded.process import Command
from memlane.embedded.redis import Redis
from memlane.storage import tenants
from memlane.storage.cluster import Cluster
from memlane.storage.migrator import migrate
from memlane.storage.models import table_name
from memlane.storage.roles import GATEWAY, WORKER
from memlane.tasks.embedders import model_of
from tests.faults.count import Servers
from tests.faults.load import TENANT
from tests.faults.provider import DIMS, MoodyProvider, vector_of
from tests.faults.watched import Watch, Watched
from tests.integration.test_embedders import serving
from tests.processes import environment
from tests.proxy import Proxy
from tests.support import ROLE_PASSWORD, as_role

ROOT = Path(__file__).parents[2]

NODES = ("node-1", "node-2")
"""The first is the control node."""

LEASE_S = 2.0

_SHORT = {
    "profile": "test",
    "shard_count": 4,
    "embedder": "openai",
    "openai_dims": DIMS,
    "embed_timeout_s": 2.0,
    "claim_size": 16,
    "lease_s": LEASE_S,
    "statement_timeout_s": 1.5,
    "sweep_every_s": 1.0,
    "stop_grace_s": 1.0,
    "mark_s": 2.0,
    "slice_s": 5.0,
    "pool_size": 4,
    "pool_wait_s": 1.0,
    "connect_timeout_s": 2,
    "gateway_threads": 6,
    "question_s": 1.0,
    "key_cache_s": 2.0,
    "poll_s": 0.05,
}
"""Waits that are short, so that a round is."""


class World:
    """The processes by name, the links by who uses them, and the servers themselves."""

    def __init__(self, folder: Path, broker_url: str | None) -> None:
        folder.mkdir(mode=0o711, parents=True, exist_ok=True)
        self.folder = folder
        self.nodes = {name: Postgres(name, folder / name, free_port(), "test", _SMALL) for name in NODES}
        self.redis = None if broker_url else Redis(folder / "redis", free_port(), "test")
        self.broker_url = broker_url or self.redis_uri(0)
        self.provider = MoodyProvider()
        self.processes: dict[str, Watched] = {}
        self.links: dict[str, Proxy] = {}
        self.url = f"http://127.0.0.1:{free_port()}"
        self.key = ""
        self.table = ""
        self.rounds = 0
        self._watch = Watch()

    def redis_uri(self, database: int) -> str:
        """Where the Redis is, without a proxy."""
        assert self.redis is not None
        return self.redis.uri(database)

    @property
    def servers(self) -> Servers:
        """Where the rows are, without a proxy."""
        nodes = {name: make_conninfo(node.uri(), connect_timeout=2) for name, node in self.nodes.items()}
        return Servers(nodes, self.redis_uri(0) if self.redis else None, self.table, vector_of)

    def start(self, stack: ExitStack) -> None:
        """Start everything, servers first."""
        stack.callback(self._watch.stop)
        self._start_servers()
        provider = stack.enter_context(serving(self.provider.app()))
        settings = self.settings(self._targets(provider))
        self._found(settings)
        stack.callback(self._close_links)
        for who in ("gateway", "workers"):
            self._link(who, self._targets(provider))
        self._add(self._gateway(), *self._workers(), *self._beats())

    def wait(self) -> None:
        """Wait until all processes are ready."""
        for process in self.processes.values():
            process.wait()

    def key_id(self, agent: str, key: str) -> UUID:
        """The id of the memory that a key stands for."""
        return key_id(TENANT, agent, key)

    def settings(self, at: Mapping[str, str]) -> Settings:
        """The settings of processes that find their servers at these addresses."""
        marks = {"redis_url": _moved(self.redis_uri(1), at["broker"])} if self.redis else {}
        nodes = {name: _moved(self.nodes[name].uri(), at[name]) for name in NODES}
        broker = _moved(self.broker_url, at["broker"])
        url = f"http://{at['provider']}/v1"
        return load_settings(nodes=nodes, broker_url=broker, openai_base_url=url, **marks, **_SHORT)

    def _targets(self, provider: str) -> dict[str, str]:
        """Where the servers listen."""
        found = {"broker": urlsplit(self.broker_url).netloc.rpartition("@")[2]}
        found["provider"] = urlsplit(provider).netloc
        return found | {name: f"127.0.0.1:{node.port}" for name, node in self.nodes.items()}

    def _link(self, who: str, targets: Mapping[str, str]) -> None:
        for what, address in targets.items():
            host, _, port = address.partition(":")
            self.links[f"{who} > {what}"] = Proxy(host, int(port))

    def _close_links(self) -> None:
        for link in self.links.values():
            link.close()

    def mend(self) -> None:
        """Let every link pass everything."""
        for link in self.links.values():
            link.mend()

    def _through_links(self, who: str) -> dict[str, str]:
        """Where a kind of process finds its servers: at its own proxies."""
        links = {name.removeprefix(f"{who} > "): link for name, link in self.links.items() if name.startswith(who)}
        return {what: f"{link.host}:{link.port}" for what, link in links.items()}

    def _start_servers(self) -> None:
        for name, node in self.nodes.items():
            node.prepare()
            self._add(Watched(node.command(), self.folder / f"{name}.log", lambda name=name: self._node_answers(name)))  # type: ignore[misc]
        if self.redis is not None:
            self.redis.prepare()
            self._add(Watched(self.redis.command(), self.folder / "redis.log", self._redis_answers))
        for node in self.nodes.values():
            node.wait(self.processes[node.name].process)

    def _found(self, settings: Settings) -> None:
        """Schema, roles, tenant and key."""
        migrate(settings, model_of(settings))
        for node in self.nodes.values():
            node.let_in({GATEWAY: ROLE_PASSWORD, WORKER: ROLE_PASSWORD})
        cluster = Cluster(settings, "test", 2)
        cluster.open()
        tenants.create_tenant(cluster.control, TENANT)
        for agent, micro in (("", 1_000_000_000), ("agent-1", 500_000_000)):  # more than a storm spends
            budget = {"tenant": TENANT, "agent": agent, "micro": micro}
            cluster.control.run(
                b"SELECT control.set_budget(%(tenant)s, %(agent)s, 'month', %(micro)s, 'defer')", budget, writes=True
            )
        self.key = tenants.create_key(cluster.control, TENANT)
        cluster.close()
        self.table = table_name(model_of(settings).name)

    def _add(self, *watched: Watched) -> None:
        self.processes |= {one.name: one for one in watched}
        self._watch.add(*watched)
        for one in watched:
            one.wait()

    def _process(self, name: str, argv: list[str], told: Mapping[str, str], answers: Callable[[], bool]) -> Watched:
        ready = self.folder / f"{name}.ready"
        env = {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore", **told, "MEMLANE_READY_FILE": str(ready)}
        return Watched(Command(name, [sys.executable, "-m", *argv], env), self.folder / f"{name}.log", answers, ready)

    def _gateway(self) -> Watched:
        settings = as_role(self.settings(self._through_links("gateway")), GATEWAY)
        told = {**environment(settings), "MEMLANE_PORT": str(urlsplit(self.url).port)}
        return self._process("gateway", ["memlane.gateway"], told, self._gateway_answers)

    def _workers(self) -> Iterator[Watched]:
        yield self._worker("ingest-1", "ingest", "memory,remember,embed", 2)
        yield self._worker("ingest-2", "ingest", "memory,remember,embed", 2)
        yield self._worker("maintenance", "maintenance", "maintenance", 1)
        yield self._worker("sweep", "sweep", "sweep", 1)

    def _worker(self, name: str, worker_class: str, queues: str, processes: int) -> Watched:
        argv = [
            *("celery", "-A", "tests.poisoned", "--quiet", "worker", "--queues", queues),
            *("--concurrency", str(processes), "--hostname", f"{name}@%h", "--without-gossip", "--without-mingle"),
        ]
        settings = as_role(self.settings(self._through_links("workers")), WORKER)
        return self._process(name, argv, {**environment(settings), "MEMLANE_WORKER_CLASS": worker_class}, _yes)

    def _beats(self) -> Iterator[Watched]:
        settings = as_role(self.settings(self._through_links("workers")), WORKER)
        for name in ("beat-1", "beat-2"):
            argv = ["celery", "-A", "memlane.workers.main", "--quiet", "beat"]
            yield self._process(name, argv, environment(settings), _yes)

    def _gateway_answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/healthz", timeout=2).status_code < 500
        except httpx.TransportError:
            return False

    def _node_answers(self, name: str) -> bool:
        try:
            with psycopg.connect(make_conninfo(self.nodes[name].uri("postgres"), connect_timeout=2)):
                return True
        except psycopg.OperationalError:
            return False

    def _redis_answers(self) -> bool:
        try:
            with redis.Redis.from_url(self.redis_uri(0), socket_timeout=1) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False


_SMALL = {"shared_buffers": "'64MB'", "max_connections": "150"}


def _yes() -> bool:
    return True


def _moved(url: str, address: str) -> str:
    """The same URL at another address."""
    parts = urlsplit(url)
    user, at, _ = parts.netloc.rpartition("@")
    return parts._replace(netloc=f"{user}{at}{address}").geturl()


@contextmanager
def world(folder: Path, broker_url: str | None = None) -> Iterator[World]:
    """A world in a folder, with a Redis of its own unless a broker is given; it ends with the block."""
    made = World(folder, broker_url)
    with ExitStack() as stack:
        made.start(stack)
        yield made
