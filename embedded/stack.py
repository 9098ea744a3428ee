"""The stack: which processes make up a whole memlane on one machine, and what each is told."""

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace

from memlane.config.celery import WORKER_CLASSES, WorkerClass
from memlane.config.settings import Settings, WorkerClassName, load_settings
from memlane.embedded import lineup
from memlane.embedded.folder import Folder, Secrets, Shape
from memlane.embedded.group import Group, group, names_of
from memlane.embedded.ports import free_port
from memlane.embedded.process import Command
from memlane.embedded.redis import Redis
from memlane.storage.roles import GATEWAY, WORKER

TENANT = "default"
"""The tenant that an embedded stack comes with."""

BEATS = 2

FLOWER_USER = "memlane"
"""The name to log in to Flower with."""


@dataclass(frozen=True, slots=True)
class Stack:
    """Servers and processes, with the addresses of this start."""

    folder: Folder
    shape: Shape
    secrets: Secrets
    nodes: tuple[Group, ...]
    redis: Redis
    port: int
    flower_port: int

    @property
    def url(self) -> str:
        """Where the gateway listens."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def flower_url(self) -> str:
        """Where Flower listens."""
        return f"http://127.0.0.1:{self.flower_port}"

    @property
    def environment(self) -> Mapping[str, str]:
        """What every process of ours is told."""
        return {
            "MEMLANE_NODES": json.dumps({node.name: node.uri() for node in self.nodes}),
            "MEMLANE_BROKER_URL": self.redis.uri(0),
            "MEMLANE_REDIS_URL": self.redis.uri(1),
            "MEMLANE_EMBEDDER": self.shape.embedder,
            "MEMLANE_SHARD_COUNT": str(self.shape.shards),
            "MEMLANE_PORT": str(self.port),
        }

    def settings(self) -> Settings:
        """The settings of the stack, for the supervisor's own use."""
        return load_settings(
            nodes={node.name: node.uri() for node in self.nodes},
            broker_url=self.redis.uri(0),
            redis_url=self.redis.uri(1),
            embedder=self.shape.embedder,
            shard_count=self.shape.shards,
            port=self.port,
        )

    def processes(self) -> list[Command]:
        """Our own processes, in the order in which they are started."""
        found = [self._worker(worker_class) for worker_class in WORKER_CLASSES.values()]
        beat = ["celery", "-A", _APP, "--quiet", "beat"]
        found += [self._process(f"beat-{n}", beat, _WITHOUT_NODES) for n in range(1, BEATS + 1)]
        return [*found, self._process("gateway", ["memlane.gateway"], self._as_role(GATEWAY)), self._flower()]

    def _worker(self, worker_class: WorkerClass) -> Command:
        name = f"worker-{worker_class.name}"
        processes = self.shape.workers if worker_class.name is WorkerClassName.INGEST else 1
        arguments = [
            *("celery", "-A", _APP, "--quiet", "worker", "--pool", "prefork", "--hostname", f"{worker_class.name}@%h"),
            *("--queues", ",".join(worker_class.queues), "--concurrency", str(processes)),
            *("--without-gossip", "--without-mingle"),  # the heartbeat stays: by it Flower knows who is there
        ]
        # Only a table's owner may build an index.
        role = {} if worker_class.name is WorkerClassName.UPKEEP else self._as_role(WORKER)
        return self._process(name, arguments, {"MEMLANE_WORKER_CLASS": worker_class.name.value, **_AS_ROOT, **role})

    @property
    def passwords(self) -> Mapping[str, str]:
        """Of the roles in Postgres that have no more rights than they need."""
        return {GATEWAY: self.secrets.postgres_gateway, WORKER: self.secrets.postgres_worker}

    def _as_role(self, role: str) -> Mapping[str, str]:
        """What a process is told that has a role's rights and not the superuser's."""
        return {
            "MEMLANE_NODES": json.dumps({node.name: node.uri_of(role, self.passwords[role]) for node in self.nodes})
        }

    def _flower(self) -> Command:
        told = {
            **_WITHOUT_NODES,
            "MEMLANE_FLOWER_PORT": str(self.flower_port),
            "MEMLANE_FLOWER_USER": FLOWER_USER,
            "MEMLANE_FLOWER_PASSWORD": self.secrets.flower,
            "MEMLANE_FLOWER_DB": str(self.folder.path / "flower" / "state"),
        }
        return replace(self._process("flower", ["memlane.workers.flower"], told), needed=False)

    def _process(self, name: str, arguments: list[str], more: Mapping[str, str] | None = None) -> Command:
        ready = {"MEMLANE_READY_FILE": str(self.folder.run / f"{name}.ready")}
        return Command(name, [sys.executable, "-m", *arguments], {**self.environment, **ready, **(more or {})})


_APP = "memlane.workers.main"

_WITHOUT_NODES = {"MEMLANE_NODES": "{}"}
"""What a process is told that needs no database."""

_AS_ROOT = {"PYTHONWARNINGS": "ignore:You're running the worker with superuser"} if os.geteuid() == 0 else {}
"""Celery warns root of messages that carry code; ours are JSON."""


def plan(folder: Folder, shape: Shape, port: int, flower_port: int) -> Stack:
    """A stack in a folder, on the ports given, or on ports that are free now where 0 is given."""
    secrets = folder.secrets()
    lineups = lineup.read(folder)
    nodes = tuple(
        group(folder, shape, secrets, node, [free_port() for _ in names_of(node, shape.standbys)], lineups)
        for node in (f"node-{number}" for number in range(1, shape.nodes + 1))
    )
    redis = Redis(folder.path / "redis", free_port(), secrets.redis)
    return Stack(folder, shape, secrets, nodes, redis, port or free_port(), flower_port or free_port())
