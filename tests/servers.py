"""The servers of docker-compose.yml's nodes as local processes: their own entry scripts, settings and health checks.

The image's entry has a stand-in, tests/docker-entrypoint.sh; hosts, ports and paths are this machine's.
"""

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

from memlane.embedded.ports import free_port
from memlane.embedded.postgres import binaries
from memlane.embedded.process import Command, spawn
from memlane.embedded.user import give, server_user
from tests.compose import ROOT, Compose, Service
from tests.local import LocalProcess

_ENTRY = "/docker-entrypoint-initdb.d/"


def names_of(node: str) -> list[str]:
    """The servers of a node."""
    return [node, f"{node}-b", f"{node}-c"]


@dataclass
class Servers:
    """Servers of nodes, as far as they are started."""

    compose: Compose
    folder: Path
    """What the servers' user may enter."""
    secrets: Path
    ports: dict[str, int] = field(default_factory=dict)
    running: dict[str, LocalProcess] = field(default_factory=dict)

    def port(self, name: str) -> int:
        """The port of a service here."""
        return self.ports.setdefault(name, free_port())

    def local(self, text: str) -> str:
        """A text with this machine's addresses of servers."""
        return re.sub(r"\b(node-[\w-]+):5432", lambda match: f"127.0.0.1:{self.port(match[1])}", text)

    def data(self, name: str) -> Path:
        """The data directory of a server."""
        return self.folder / name / "18" / "docker"

    def lineup(self, name: str) -> Path:
        """What the servers of a node share."""
        return self.folder / self._mounts(name)["/var/lib/lineup"]

    def _mounts(self, name: str) -> Mapping[str, str]:
        volumes = [str(volume).split(":") for volume in self.compose.services[name].raw["volumes"]]
        return {target: source for source, target, *_ in volumes}

    def prepare(self, service: Service) -> None:
        """Lay out what a server finds mounted."""
        home, lineup = self.folder / service.name, self.lineup(service.name)
        for folder in (home, home / "secrets", home / "scripts", home / "bin", lineup):
            folder.mkdir(exist_ok=True)
        give(home, server_user())  # for its socket
        for target, source in service.secrets.items():
            shutil.copy(self.secrets / source, home / "secrets" / target)
        for target, source in self._mounts(service.name).items():
            if target.startswith(_ENTRY):
                shutil.copy(ROOT / source, home / "scripts" / target.removeprefix(_ENTRY))
        shutil.copytree(ROOT / self._mounts(service.name)["/memlane"], home / "memlane", dirs_exist_ok=True)
        shutil.copy(ROOT / "tests" / "docker-entrypoint.sh", home / "bin")

    def environment(self, service: Service) -> dict[str, str]:
        """A server's variables, with this machine's paths."""
        home = self.folder / service.name
        return {
            **{name: self.local(value) for name, value in service.environment.items()},
            "PATH": f"{home / 'bin'}:{binaries(self.folder)}:{os.environ['PATH']}",
            "SECRETS": str(home / "secrets"),
            "POSTGRES_PASSWORD_FILE": str(home / "secrets" / "postgres_superuser"),
            "SCRIPTS": str(home / "scripts"),
            "LINEUP": str(self.lineup(service.name)),
            "PGDATA": str(self.data(service.name)),
            "PGPORT": str(self.port(service.name)),
            "PGHOST": str(home),  # of the socket
            "HOME": str(home),
            "RUN_AS": server_user() or "",
        }

    def start(self, *names: str) -> None:
        """Start servers, all at once, as Compose does."""
        for name in names:
            service = self.compose.services[name]
            self.prepare(service)
            (entry,) = service.raw["entrypoint"]
            command = Command(
                name,
                [f"{self.folder / name}{entry}", *service.command],
                self.environment(service),
                end_signal=signal.SIGINT,
                orphan_signal=signal.SIGINT,
            )
            process = LocalProcess(command, self.folder / f"{name}.log", lambda n=name: self.healthy(n), {})  # type: ignore[misc]
            process.process = spawn(command, process.log)
            self.running[name] = process

    def healthy(self, name: str) -> bool:
        """Whether the file's own check finds a server healthy."""
        return self.run(name, *self.compose.services[name].check).returncode == 0

    def await_healthy(self, *names: str) -> None:
        """Wait until servers are healthy."""
        for name in names:
            self.running[name].ready(90)

    def run(self, name: str, *argv: str) -> "subprocess.CompletedProcess[str]":
        """As `docker compose exec` does."""
        program, *rest = argv
        program = f"{self.folder / name}{program}" if program.startswith("/memlane/") else program
        env = {**os.environ, **self.environment(self.compose.services[name])}
        search = shutil.which(program, path=env["PATH"])
        assert search is not None, program
        return subprocess.run([search, *rest], env=env, capture_output=True, text=True, cwd="/", check=False)

    def connect(self, *names: str) -> "psycopg.Connection[tuple[object, ...]]":
        """To the primary among servers, as the superuser."""
        password = (self.secrets / "postgres_superuser").read_text().strip()
        hosts = ",".join(f"127.0.0.1:{self.port(name)}" for name in names)
        where = f"postgresql://postgres:{password}@{hosts}/memlane?connect_timeout=5"
        return psycopg.connect(where, autocommit=True, target_session_attrs="any" if len(names) == 1 else "primary")

    def states(self, *names: str) -> dict[str, tuple[object, ...]]:
        """Who follows the primary among servers: whether it streams, and how far its word counts for a commit."""
        with self.connect(*names) as connection:
            found = connection.execute("SELECT application_name, state, sync_state FROM pg_stat_replication").fetchall()
        return {str(name): tuple(rest) for name, *rest in found}

    def logs(self, name: str) -> str:
        """What a server has said."""
        return self.running[name].logs()

    def kill(self, name: str) -> None:
        """End a server and all its processes at once."""
        os.killpg(self.running[name].pid, signal.SIGKILL)
        self.running.pop(name).wait()

    def stop(self, *names: str) -> None:
        """End servers in good order."""
        for name in names:
            process = self.running.pop(name)
            process.kill(signal.SIGINT)
            assert process.wait(60) == 0, process.logs()[-2000:]

    def lose(self, name: str) -> None:
        """Remove a server's volume."""
        shutil.rmtree(self.folder / name)

    def teardown(self) -> None:
        """End what runs."""
        for process in self.running.values():
            process.teardown()


def following(*names: str) -> Mapping[str, Sequence[object]]:
    """States as they are when these servers follow, and each may confirm."""
    return dict.fromkeys(names, ("streaming", "quorum"))
