"""The servers that all systems are measured on: a stack of our own in a temporary folder, and the provider."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import sleep

import psycopg
import redis
from psycopg import sql

from memlane.admin import Admin
from memlane.bench import cpu
from memlane.embedded.folder import Folder, Secrets, StackState
from memlane.embedded.ports import free_port, in_use
from memlane.embedded.redis import uri
from memlane.embedded.run import start_detached, stop_detached

DIMS = 384
_NODE = "node-1"

_KINDS = {"node": "Postgres", "redis": "Redis", "worker": "workers", "beat": "beats", "gateway": "gateway"}
"""What the processes of a stack are, by how their names begin."""


@dataclass(frozen=True, slots=True)
class Servers:
    """Where they are.

    Attributes:
        url: of our gateway.
        secrets: of the stack.
        state: of the stack.
        folder: of the stack.
        provider: the base URL of the provider, with /v1 and /stats.
        latency_ms: how long the provider takes for a request.
        provider_pid: its process.
    """

    url: str
    secrets: Secrets = field(repr=False)
    state: StackState
    folder: Folder
    provider: str
    latency_ms: float
    provider_pid: int

    @property
    def kinds(self) -> Mapping[int, str]:
        """What each process is, by its id: ours, the servers, the provider, and who asks them."""
        own = {one.pid: _kind(one.name) for one in self.state.processes}
        return {**own, self.provider_pid: "provider", os.getpid(): "client"}

    def cpu_s(self) -> dict[str, float]:
        """CPU seconds so far, by what processes are."""
        return cpu.taken(self.kinds)

    @property
    def broker(self) -> str:
        """A database of Redis that ours does not use."""
        return self.redis(5)

    def redis(self, number: int) -> str:
        """A database of Redis; 0 and 1 are ours."""
        return uri(self.state.redis, self.secrets.redis, number)

    def postgres(self, database: str) -> str:
        """A database of the server."""
        return f"postgresql://memlane:{self.secrets.postgres}@{self.state.nodes[_NODE]}/{database}"

    @contextmanager
    def database(self, name: str) -> Iterator[str]:
        """A database of its own for the time of the block; what was written before is on disk when it begins."""
        made = sql.Identifier(name)
        with psycopg.connect(self.postgres("postgres"), autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(made))
            connection.execute("CHECKPOINT")
            try:
                yield self.postgres(name)
            finally:
                connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(made))

    def versions(self) -> Mapping[str, str]:
        """Of the servers, as they say themselves."""
        pgvector = "SELECT extversion FROM pg_extension WHERE extname = 'vector'"
        with (
            psycopg.connect(self.postgres("memlane"), autocommit=True) as connection,
            redis.Redis.from_url(self.broker) as broker,
        ):
            (version,) = connection.execute(pgvector).fetchone() or ("?",)
            postgres = connection.info.parameter_status("server_version") or "?"
            return {"Postgres": postgres, "pgvector": version, "Redis": str(broker.info("server")["redis_version"])}

    def settle(self) -> None:
        """Wait until our stack has nothing left to do."""
        with closing(Admin(self.url, self.secrets.admin_key)) as admin:
            while admin.status().jobs:
                sleep(0.2)


@contextmanager
def servers(latency_ms: float, nodes: int = 1, standbys: int = 0) -> Iterator[Servers]:
    """A stack and a provider, both stopped after the block."""
    folder = Folder(Path(tempfile.mkdtemp(prefix="memlane-bench-")))
    with provider(latency_ms) as (url, pid):
        arguments = [
            *("--data", str(folder.path), "--port", "0", "--embedder", "openai", "--workers", "4"),
            *("--nodes", str(nodes), "--standbys", str(standbys)),
        ]
        told = {"MEMLANE_OPENAI_BASE_URL": f"{url}/v1", "MEMLANE_OPENAI_DIMS": str(DIMS)}
        state = start_detached(folder, arguments, told)
        try:
            yield Servers(state.url, folder.secrets(), state, folder, url, latency_ms, pid)
        finally:
            stop_detached(folder)
            shutil.rmtree(folder.path, ignore_errors=True)


@contextmanager
def provider(latency_ms: float, *options: str) -> Iterator[tuple[str, int]]:
    """A provider that is stopped after the block: its base URL, and its process."""
    port = free_port()
    command = [sys.executable, "-m", "memlane.bench.provider", "--port", str(port), "--latency-ms", str(latency_ms)]
    process = subprocess.Popen([*command, "--dims", str(DIMS), *options])
    try:
        while not in_use(port):
            if process.poll() is not None:
                raise RuntimeError("the provider did not start")
            sleep(0.02)
        yield f"http://127.0.0.1:{port}", process.pid
    finally:
        process.terminate()
        process.wait(10)


def _kind(name: str) -> str:
    return next((kind for begins, kind in _KINDS.items() if name.startswith(begins)), "others")
