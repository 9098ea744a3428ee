"""What cannot be reached is one clear line, and no secret is in logs, answers or process lists."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from pydantic import SecretStr

from memlane.config.settings import Settings
from memlane.embedded.ports import free_port
from memlane.embedded.postgres import Postgres
from memlane.embedded.process import Command
from memlane.tasks.lane import Lane
from memlane.workers.app import make_app
from tests.local import LocalProcess
from tests.processes import GatedProvider, environment
from tests.support import accepted, eventually, item

pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.timeout(180),
    pytest.mark.parametrize("broker", ["redis"], indirect=True),
]

SECRET = "hunter2-6c1f"

Start = Callable[..., LocalProcess]

GATEWAY = ("memlane.gateway",)
BEAT = ("celery", "-A", "memlane.workers.main", "--quiet", "beat")
WORKER = (
    *("celery", "-A", "memlane.workers.main", "--quiet", "worker", "--queues", "remember,sweep,optimize"),
    *("--concurrency", "1", "--without-gossip", "--without-mingle", "--without-heartbeat"),
)


def address(fault: str, postgres: Postgres) -> str:
    """A node's address with something wrong."""
    return {
        "password": f"postgresql://postgres:{SECRET}@127.0.0.1:{postgres.port}/postgres",
        "host": f"postgresql://postgres:{SECRET}@nobody.invalid:5432/postgres",
        "port": f"postgresql://postgres:{SECRET}@127.0.0.1:{free_port()}/postgres",
        "form": f"postgres:/postgres:{SECRET}@127.0.0.1/postgres",
    }[fault]


FAULTS = {
    "password": "node alpha does not answer: it refuses the user or the password",
    "host": "node alpha does not answer: its host name is not known",
    "port": "node alpha does not answer: nothing listens there",
}
UNREADABLE = "the address of node alpha in MEMLANE_NODES cannot be read"


@pytest.fixture
def start(process_folder: Path) -> Iterator[Start]:
    """Starts a process of ours whose log has to say something; they are ended with the test."""
    made: list[LocalProcess] = []

    def go(settings: Settings, arguments: tuple[str, ...], says: str) -> LocalProcess:
        name = f"process-{len(made)}"
        log = process_folder / f"{name}.log"
        env = {**environment(settings), "MEMLANE_PORT": str(free_port()), "MEMLANE_WORKER_CLASS": "sweep"}
        command = Command(name, [sys.executable, "-m", *arguments], env)
        made.append(LocalProcess(command, log, lambda: says in log.read_text(), {}))
        return made[-1].start()

    yield go
    for process in made:
        process.teardown()


def broken(settings: Settings, fault: str, postgres: Postgres) -> Settings:
    return settings.model_copy(update={"nodes": {"alpha": SecretStr(address(fault, postgres))}})


def command(settings: Settings, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """A command that has to end by itself."""
    env = {**os.environ, **environment(settings), "MEMLANE_WORKER_CLASS": "sweep", "PYTHONWARNINGS": "ignore"}
    return subprocess.run(
        [sys.executable, "-m", *arguments], env=env, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize("fault", [*FAULTS, "form"])
def test_migrate_names_the_node_and_what_is_wrong(fault: str, cluster_settings: Settings, postgres: Postgres) -> None:
    done = command(broken(cluster_settings, fault, postgres), "memlane", "migrate")
    assert done.returncode == 1
    assert done.stderr.startswith(f"memlane: {FAULTS.get(fault, UNREADABLE)}")
    assert len(done.stderr.strip().splitlines()) == 1
    assert SECRET not in done.stdout + done.stderr


@pytest.mark.parametrize("arguments", [GATEWAY, WORKER], ids=["gateway", "worker"])
def test_an_address_that_cannot_be_read_ends_a_process(
    arguments: tuple[str, ...], cluster_settings: Settings, postgres: Postgres
) -> None:
    done = command(broken(cluster_settings, "form", postgres), *arguments)
    assert done.returncode == 1
    assert done.stderr.startswith(f"memlane: {UNREADABLE}")
    assert len(done.stderr.strip().splitlines()) == 1
    assert SECRET not in done.stdout + done.stderr


@pytest.mark.parametrize("arguments", [WORKER, BEAT], ids=["worker", "beat"])
def test_settings_that_are_wrong_end_a_process(arguments: tuple[str, ...], cluster_settings: Settings) -> None:
    wrong = cluster_settings.model_copy(update={"broker_url": SecretStr(f"nonsense://:{SECRET}@h/0")})
    done = command(wrong, *arguments)
    assert done.returncode == 1
    assert "MEMLANE_BROKER_URL: must begin with redis://" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert SECRET not in done.stdout + done.stderr


@pytest.mark.parametrize("fault", FAULTS)
def test_a_gateway_and_a_worker_wait_for_a_node_and_say_why(
    fault: str, cluster_settings: Settings, postgres: Postgres, start: Start
) -> None:
    settings = broken(cluster_settings, fault, postgres)
    gateway = start(settings, GATEWAY, FAULTS[fault])
    make_app(settings).send_task("drain.remember", args=(0,))
    make_app(settings).send_task("beat.sweep")
    make_app(settings).send_task("beat.vacuum")
    worker = start(settings, WORKER, FAULTS[fault])
    eventually(lambda: "drain.refused" in worker.logs() and worker.logs().count("duty.refused") == 2, 20)
    for process in (gateway, worker):
        assert process.status == "running"
        process.kill(signal.SIGTERM)
        process.wait()
        assert SECRET not in process.logs()
        assert "Traceback" not in process.logs()
        assert 'File "' not in process.logs()


def test_a_broker_that_refuses_the_password(
    cluster_settings: Settings, start: Start, door: Lane, keys: tuple[str, str]
) -> None:
    """Workers and beat go on trying; the gateway accepts, and says that nobody was woken."""
    right = cluster_settings.broker_url.get_secret_value()
    wrong = SecretStr(right.replace(":test@", f":{SECRET}@"))
    settings = cluster_settings.model_copy(update={"broker_url": wrong, "redis_url": wrong})
    worker = start(settings, WORKER, "invalid username-password pair")
    beat = start(settings, BEAT, "invalid username-password pair")
    gateway = start(settings, GATEWAY, "Application startup complete")
    url = f"http://127.0.0.1:{gateway.command.env['MEMLANE_PORT']}"
    body = {"agent": "ada", "content": "tea"}
    answer = httpx.post(f"{url}/v1/memories", json=body, headers={"Authorization": f"Bearer {keys[0]}"}, timeout=30)
    assert answer.status_code == 202
    eventually(lambda: "wakeup.not_sent" in gateway.logs() and "marks.down" in gateway.logs(), 20)
    assert "it refuses the user or the password" in gateway.logs()
    status = httpx.get(f"{url}/v1/admin/status", headers={"Authorization": f"Bearer {keys[1]}"}, timeout=30)
    assert status.json()["broker"]["up"] is False
    assert SECRET not in status.text
    assert door is not None
    for process in (worker, beat, gateway):
        assert process.status == "running"
        assert SECRET not in process.logs()
        assert "Traceback" not in process.logs()


def test_no_secret_is_seen(
    cluster_settings: Settings,
    provider: tuple[GatedProvider, str],
    start: Start,
    door: Lane,
    keys: tuple[str, str],
    postgres: Postgres,
    process_folder: Path,
) -> None:
    """Everything is told secrets; logs, answers and process lists are searched for them."""
    gated, _ = provider
    settings = cluster_settings.model_copy(
        update={
            "openai_api_key": SecretStr(f"sk-{SECRET}"),
            "sentry_dsn": SecretStr(f"http://{SECRET}@127.0.0.1:{free_port()}/1"),
        }
    )
    passwords = [f":{password}@" for password in (postgres.password, "test")]
    secrets = [SECRET, *keys, *(key.rpartition("_")[2] for key in keys), *passwords]
    gated._rpm = 1
    gated._window.append(1e12)  # the provider refuses, which is told
    accepted(door, item("tea"))
    processes = [
        start(settings, GATEWAY, "Application startup complete"),
        start(settings, ("celery", *WORKER[1:]), "drain.finished"),
        start(settings, BEAT, ""),
    ]
    url = f"http://127.0.0.1:{processes[0].command.env['MEMLANE_PORT']}"
    seen = []
    with httpx.Client(base_url=url, timeout=30) as http:
        for key in (*keys, keys[0] + "x", "mlk_nobody_nothing", ""):
            headers = {"Authorization": f"Bearer {key}"} if key else {}
            for method, path in (("GET", "/v1/admin/status"), ("GET", "/v1/admin/keys"), ("POST", "/v1/recall")):
                seen.append(http.request(method, path, headers=headers).text)
            seen.append(http.post("/v1/recall", json={"agent": "ada", "query": "tea"}, headers=headers).text)
        seen += [http.get(path).text for path in ("/metrics", "/readyz", "/healthz", "/openapi.json")]
    command_line = command(settings, "memlane", "status", "--json", "--url", url)
    seen += [command_line.stdout, command_line.stderr]
    for process in processes:
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        seen += [Path(f"/proc/{member.pid}/cmdline").read_text() for member in family]
        process.kill(signal.SIGTERM)
        process.wait()
    seen += [log.read_text(errors="replace") for log in process_folder.glob("*.log")]
    assert any('"broker"' in text for text in seen)
    for text in seen:
        for secret in secrets:
            assert secret not in text
