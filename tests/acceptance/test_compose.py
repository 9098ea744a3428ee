"""The services of docker-compose.yml as local processes: their commands, variables, secrets and health checks.

What is replaced is what a machine without a container engine lacks: hosts, ports and paths.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic

import httpx
import psycopg
import pytest

from memlane import Client
from memlane.embedded.ports import free_port
from memlane.embedded.process import Command, spawn
from memlane.embedded.redis import Redis, program
from tests import compose
from tests.compose import Compose, Service
from tests.local import LocalProcess
from tests.processes import DIMS, GatedProvider
from tests.servers import Servers, following, names_of
from tests.support import eventually

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(600)]

FIRST, B, C = NODE = names_of("node-1")
NODES = [*NODE, "node-2", "node-2-b"]
"""The servers that run: one standby of node-2 is lost from the beginning."""

PROGRAMS = {
    "python": [sys.executable],
    "celery": [sys.executable, "-m", "celery"],
    "memlane": [sys.executable, "-m", "memlane"],
    "test": ["test"],
}


@dataclass
class Machine:
    """Where the services run here: the file, the secrets, and what each address and path became."""

    compose: Compose
    folder: Path
    secrets: Path
    told: Mapping[str, str]
    """What the operator wrote into .env."""
    nodes: Servers
    ports: dict[str, int] = field(default_factory=dict)
    started: list[tuple[Service, LocalProcess]] = field(default_factory=list)

    def port(self, name: str) -> int:
        """The port of a service here."""
        return self.ports.setdefault(name, free_port())

    def local(self, service: Service, number: int, text: str) -> str:
        """A text with this machine's addresses and paths."""
        text = self.nodes.local(text)
        for name in ("broker", "cache"):
            text = text.replace(f"@{name}:6379", f"@127.0.0.1:{self.port(name)}")
        for _, _, inside in service.ports:
            text = re.sub(rf"\b{inside}\b", str(self.port(service.name)), text)
        text = text.replace("0.0.0.0", "127.0.0.1")  # noqa: S104
        home = self.folder / f"{service.name}-{number}"
        text = text.replace("/tmp/", f"{home}/tmp/").replace("/run/secrets", f"{home}/secrets")  # noqa: S108
        return text.replace("/var/lib/memlane", f"{home}/lib")

    def environment(self, service: Service, number: int) -> dict[str, str]:
        """A service's variables and secrets: .env first, as Compose has it."""
        home = self.folder / f"{service.name}-{number}"
        for folder in ("tmp", "secrets", "lib"):
            (home / folder).mkdir(parents=True, exist_ok=True)
        for target, source in service.secrets.items():
            text = (self.secrets / source).read_text()
            (home / "secrets" / target).write_text(self.local(service, number, text))
        found = {**self.told, **service.environment, "MEMLANE_SECRETS_DIR": "/run/secrets", "HOME": "/var/lib/memlane"}
        return {name: self.local(service, number, value) for name, value in found.items()}

    def argv(self, service: Service, number: int, command: list[str]) -> list[str]:
        """A command as it is called here."""
        first, *rest = command
        return [*PROGRAMS[first], *(self.local(service, number, part) for part in rest)]

    def start(self, service: Service, number: int) -> LocalProcess:
        """Start one of ours."""
        env = self.environment(service, number)
        check = self.argv(service, number, list(service.check)) if "healthcheck" in service.raw else ["true"]
        command = Command(
            f"{service.name}-{number}",
            self.argv(service, number, list(service.command)),
            {**env, "PYTHONWARNINGS": "ignore:You're running the worker with superuser"},
        )

        def healthy() -> bool:
            return subprocess.run(check, capture_output=True, check=False, env={**os.environ, **env}).returncode == 0

        process = LocalProcess(command, self.folder / f"{command.name}.log", healthy, {})
        process.process = spawn(command, process.log)
        self.started.append((service, process))
        return process


@pytest.fixture
def machine(server_folder: Path, provider: tuple[GatedProvider, str]) -> Iterator[Machine]:
    """The file with an operator's .env, and secrets that the operator made."""
    told = {
        "MEMLANE_EMBEDDER": "openai",
        "MEMLANE_OPENAI_BASE_URL": provider[1],
        "MEMLANE_OPENAI_DIMS": str(DIMS),
        "MEMLANE_SHARD_COUNT": "8",
        "MEMLANE_INGEST_PROCESSES": "1",
    }
    folder = server_folder / "compose"
    folder.mkdir(mode=0o711)
    compose.make_secrets(folder / "secrets")
    file, secrets = compose.read(told), folder / "secrets"
    made = Machine(file, folder, secrets, told, Servers(file, folder, secrets))
    yield made
    for _, process in made.started:
        process.teardown()
    made.nodes.teardown()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def servers(machine: Machine) -> Iterator[Machine]:
    """The servers, with the settings of the file."""
    running = []
    machine.nodes.start(*NODES)
    for name in ("broker", "cache"):
        command = redis_command(machine, machine.compose.services[name])
        running.append((command, spawn(command, machine.folder / f"{name}.log")))
        password = (machine.secrets / f"redis_{name}").read_text().split()[1]
        Redis(machine.folder / name, machine.port(name), password).wait(running[-1][1])
    machine.nodes.await_healthy(*NODES)
    yield machine
    machine.nodes.stop(*machine.nodes.running)
    for command, process in reversed(running):
        process.send_signal(command.end_signal)
        assert process.wait(30) == 0


def redis_command(machine: Machine, service: Service) -> Command:
    """A Redis as the image starts it, but here."""
    home = machine.folder / service.name
    home.mkdir()
    arguments = [part.replace("/run/secrets", str(machine.secrets)) for part in service.command[1:]]
    here = ["--port", str(machine.port(service.name)), "--bind", "127.0.0.1", "--dir", str(home)]
    return Command(service.name, [program(), *arguments, *here], orphan_signal=signal.SIGTERM)


@pytest.fixture
def started(servers: Machine) -> Machine:
    """Everything, in the file's order, each when what it waits for is there."""
    machine = servers
    for service in machine.compose.in_order():
        if not service.ours or service.asked_for:
            continue
        if service.name == "migrate":
            done = machine.start(service, 1)
            assert done.wait(120) == 0, done.logs()
            continue
        for number in range(1, service.replicas + 1):
            machine.start(service, number)
    for _, process in machine.started:
        if not process.name.startswith("migrate"):
            process.ready(90)
    return machine


def test_the_services_start_work_and_stop(started: Machine) -> None:
    machine = started
    command_line(machine, "tenants", "create", "acme")
    tenant_key = json.loads(command_line(machine, "keys", "create", "acme", "--json"))["key"]
    status = json.loads(command_line(machine, "status", "--json"))
    assert [node["up"] for node in status["nodes"]] == [True, True]
    assert status["broker"]["settings"]["maxmemory-policy"] == "noeviction"
    assert all(node["settings"]["fsync"] == "on" for node in status["nodes"])
    assert all(node["settings"]["synchronous_standby_names"].startswith("ANY 1 (") for node in status["nodes"])
    assert machine.nodes.states(*NODE) == following(B, C)
    with Client(f"http://127.0.0.1:{machine.port('gateway')}", tenant_key, retries=40) as client:
        client.remember("ada", "green tea in Lisbon").wait("searchable", timeout=30)
        assert client.recall("ada", "tea").hits[0].memory.content == "green tea in Lisbon"
        assert json.loads(command_line(machine, "ledger", "--json"))["events"]["stored"] == 1
        back_up(machine)
        client.forget_agent("ada")
        eventually(lambda: not list(client.memories("ada")), 30)
        look_with_flower(machine)
        for _, process in machine.started:
            assert "shard_skipped" not in process.logs(), process.name  # nobody lacks a right
        go_on_without_a_primary(machine, client)
    stop_in_good_order(machine)


def command_line(machine: Machine, *arguments: str) -> str:
    """As `docker compose run --rm cli` does."""
    cli = machine.compose.services["cli"]
    env = machine.environment(cli, 1)
    env["MEMLANE_URL"] = f"http://127.0.0.1:{machine.port('admin')}"
    env["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    argv = [machine.local(cli, 1, part) for part in cli.raw["entrypoint"]]
    done = subprocess.run([*argv, *arguments], env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def back_up(machine: Machine) -> None:
    """As `docker compose run --rm backup` does; the memory is in it."""
    service = machine.compose.services["backup"]
    env = {**os.environ, **machine.environment(service, 1)}
    argv = [part.replace("/backups", str(machine.folder / "backups")) for part in service.command]
    done = subprocess.run([*PROGRAMS[argv[0]], *argv[1:]], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "1 memories in" in done.stdout


def go_on_without_a_primary(machine: Machine, client: Client) -> None:
    """The primary of the node with the control schema is killed, and a standby promoted; nobody is started again."""
    agents = [f"agent {number}" for number in range(4)]
    for agent in agents:
        client.remember(agent, "before")
    machine.nodes.kill(FIRST)
    promoted = [name for name in (B, C) if machine.nodes.run(name, "/memlane/promote.sh").returncode == 0]
    assert len(promoted) == 1
    for receipt in [client.remember(agent, "after") for agent in agents]:
        receipt.wait("searchable", timeout=120)
    expected = ["after"] * 4 + ["before"] * 4  # what was being stored at that moment is, when its lease has run out
    eventually(lambda: sorted(m.content for agent in agents for m in client.memories(agent)) == expected, 120)
    machine.nodes.lose(FIRST)
    machine.nodes.start(FIRST)
    machine.nodes.await_healthy(FIRST)
    eventually(lambda: set(machine.nodes.states(*NODE)) == {*NODE} - {*promoted}, 60)


def look_with_flower(machine: Machine) -> None:
    """Flower knows every worker, and the drain."""
    url = f"http://127.0.0.1:{machine.port('flower')}"
    password = (machine.secrets / "flower_password").read_text().strip()
    assert httpx.get(url).status_code == 401
    with httpx.Client(base_url=url, auth=("memlane", password), timeout=20) as browse:
        online = re.compile(r"(ingest|maintenance|sweep|upkeep)@")
        eventually(lambda: len(set(online.findall(browse.get("/metrics").text))) == 4, 20)
        eventually(lambda: "stored 1, searchable 1" in browse.get("/api/tasks").text, 20)
    assert (machine.folder / "flower-1" / "lib" / "flower").is_dir()


def stop_in_good_order(machine: Machine) -> None:
    """As `docker compose stop` does: those first on whom nobody depends, each within its grace."""
    for service, process in reversed(machine.started):
        if service.name == "migrate":
            continue
        assert process.status == "running", process.logs()
        begun = monotonic()
        process.kill(signal.SIGTERM)
        code = process.wait(service.stop_grace_s)
        assert code in (0, -signal.SIGTERM), (process.name, code)
        assert monotonic() - begun < service.stop_grace_s
        assert "Traceback" not in process.logs(), process.name


def test_a_second_migrate_does_nothing(servers: Machine) -> None:
    migrate = servers.compose.services["migrate"]
    first, second = (servers.start(migrate, number) for number in (1, 2))
    assert (first.wait(120), second.wait(120)) == (0, 0), first.logs() + second.logs()
    assert all("is the admin's" in process.logs() for process in (first, second))
    uris = json.loads(servers.local(migrate, 1, (servers.secrets / "nodes_migrator").read_text()))
    with psycopg.connect(uris["node-1"], target_session_attrs="read-write") as connection:
        assert connection.execute("SELECT count(*) FROM control.api_keys").fetchone() == (1,)
    assert all(process.logs().count("up to date") == 1 for process in (first, second))


@pytest.mark.parametrize(
    ("name", "missing"),
    [
        *((name, "memlane_nodes") for name in ("gateway", "worker-ingest", "migrate")),
        *((name, "memlane_broker_url") for name in ("gateway", "worker-ingest", "migrate", "beat", "flower")),
    ],
)
def test_a_missing_secret_is_named_in_one_line(machine: Machine, name: str, missing: str) -> None:
    service = machine.compose.services[name]
    env = machine.environment(service, 1)
    (machine.folder / f"{name}-1" / "secrets" / missing).unlink()
    argv = machine.argv(service, 1, list(service.command))
    done = subprocess.run(argv, env={**os.environ, **env}, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert missing.upper() in done.stderr
