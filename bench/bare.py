"""Servers without anybody who works: a Postgres, a Redis and a provider, and gateways where they are wanted."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import sleep

import psycopg
from psycopg import sql

from memlane.bench import cpu
from memlane.bench.servers import DIMS, provider
from memlane.config.settings import Settings, load_settings
from memlane.embedded.ports import free_port
from memlane.embedded.postgres import Postgres
from memlane.embedded.process import Command, spawn
from memlane.embedded.redis import Redis
from memlane.storage.migrator import migrate
from memlane.tasks.embedders import model_of
from memlane.tasks.lane import Lane


@dataclass(frozen=True, slots=True)
class Bare:
    """Where they are.

    Attributes:
        postgres: a server without databases of ours.
        redis: the broker.
        provider: the base URL of the provider, without /v1.
        pids: the processes of Postgres, of Redis and of the provider.
    """

    postgres: Postgres
    redis: Redis
    provider: str = field(repr=False)
    pids: tuple[int, int, int] = (0, 0, 0)

    def cpu_s(self) -> dict[str, float]:
        """CPU seconds so far, by what processes are; what this process has started is its own."""
        kinds = dict(zip(self.pids, ("Postgres", "Redis", "provider"), strict=True))
        return cpu.taken({**kinds, os.getpid(): "client"})

    @contextmanager
    def cluster(self, name: str, **more: object) -> Iterator[Settings]:
        """Settings of a migrated cluster with one node, for the time of the block."""
        made = sql.Identifier(name)
        with psycopg.connect(self.postgres.uri("postgres"), autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(made))
            settings = load_settings(
                nodes={"node-1": self.postgres.uri(name)},
                broker_url=self.redis.uri(),
                embedder="openai",
                openai_base_url=f"{self.provider}/v1",
                openai_api_key="bench",
                openai_dims=DIMS,
                log_level="ERROR",
                **more,
            )
            migrate(settings, model_of(settings))
            try:
                yield settings
            finally:
                connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(made))

    @contextmanager
    def gateway(self, settings: Settings, **more: str) -> Iterator[str]:
        """The URL of a gateway process on a cluster, which is stopped after the block."""
        port, folder = free_port(), self.redis.folder.parent
        ready = folder / f"ready-{port}"
        told = {f"MEMLANE_{name.upper()}": value for name, value in {**_told(settings), **more}.items()}
        told |= {"MEMLANE_PORT": str(port), "MEMLANE_READY_FILE": str(ready)}
        process = spawn(Command("gateway", [sys.executable, "-m", "memlane.gateway"], told), folder / "gateway.log")
        try:
            while not ready.exists():
                if process.poll() is not None:
                    raise RuntimeError("the gateway did not start")
                sleep(0.02)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(30)
            ready.unlink(missing_ok=True)


def _told(settings: Settings) -> Mapping[str, str]:
    """What a process has to be told of settings that are not the usual ones."""
    uris = ", ".join(f'"{name}": "{uri.get_secret_value()}"' for name, uri in settings.nodes.items())
    return {
        "nodes": f"{{{uris}}}",
        "broker_url": settings.broker_url.get_secret_value(),
        "embedder": settings.embedder.value,
        "openai_base_url": settings.openai_base_url or "",
        "openai_api_key": settings.openai_api_key.get_secret_value(),
        "openai_dims": str(settings.openai_dims),
        "log_level": settings.log_level,
    }


@contextmanager
def bare(latency_ms: float = 20.0) -> Iterator[Bare]:
    """Servers that are stopped after the block, and leave nothing."""
    folder = Path(tempfile.mkdtemp(prefix="memlane-bench-"))
    folder.chmod(0o711)  # Postgres may run as another user than we
    postgres = Postgres("bench", folder / "postgres", free_port(), "bench")
    redis = Redis(folder / "redis", free_port(), "bench")
    running: list[tuple[subprocess.Popen[bytes], int]] = []
    try:
        for server in (postgres, redis):
            server.prepare()
            process = spawn(server.command(), folder / "server.log")
            running.append((process, server.command().end_signal))
            server.wait(process)
        with provider(latency_ms) as (url, pid):
            yield Bare(postgres, redis, url, (running[0][0].pid, running[1][0].pid, pid))
    finally:
        for process, how in reversed(running):
            process.send_signal(how)
            process.wait(60)
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def lane_of(settings: Settings) -> Iterator[Lane]:
    """A lane for the time of the block."""
    lane = Lane(settings, "bench")
    lane.open()
    try:
        yield lane
    finally:
        lane.close()
