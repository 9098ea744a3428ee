"""Flower as a process, beside real workers, on both brokers: what it shows and what it refuses."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
import pytest

from memlane.config.settings import Settings
from memlane.contract import Receipt
from memlane.embedded.ports import free_port
from memlane.embedded.process import Command
from memlane.tasks import accept
from memlane.tasks.lane import Lane
from memlane.workers.app import make_app
from tests.local import LocalProcess, WorkerProcess
from tests.processes import environment
from tests.support import eventually, item, sql

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(180)]

FLOWER = [sys.executable, "-m", "memlane.workers.flower"]
CANARY = "kanarienvogel-9c1d"
PASSWORD = "open-sesame"


@pytest.fixture
def cluster_settings(cluster_settings: Settings) -> Settings:
    """Patient enough for a producer's task to be looked at while it waits for a table."""
    return cluster_settings.model_copy(update={"statement_timeout_s": 9.0, "lease_s": 10.0})


@pytest.fixture
def flower(cluster_settings: Settings, process_folder: Path) -> Iterator[LocalProcess]:
    """Flower beside the test's workers."""
    ready, port = process_folder / "flower.ready", free_port()
    env = {
        **environment(cluster_settings),
        "MEMLANE_READY_FILE": str(ready),
        "MEMLANE_FLOWER_PORT": str(port),
        "MEMLANE_FLOWER_PASSWORD": PASSWORD,
        "MEMLANE_FLOWER_DB": str(process_folder / "flower" / "state"),
    }
    config = {"url": f"http://127.0.0.1:{port}"}
    made = LocalProcess(Command("flower", FLOWER, env), process_folder / "flower.log", ready.exists, config).start()
    yield made
    made.teardown()


@pytest.fixture
def browse(flower: LocalProcess) -> Iterator[httpx.Client]:
    """Somebody who may look."""
    url = str(flower.celeryconfig["url"])
    with httpx.Client(base_url=url, auth=("memlane", PASSWORD), timeout=20) as client:
        yield client


@pytest.fixture
def worker(start_worker: Callable[..., WorkerProcess], flower: LocalProcess) -> WorkerProcess:
    """An ingest worker that Flower sees from its beginning."""
    assert flower.status == "running"
    return start_worker("ingest", "memory,remember,embed")


def tasks(browse: httpx.Client, name: str) -> list[dict[str, Any]]:
    found = browse.get("/api/tasks", params={"taskname": name})
    assert found.status_code == 200
    return list(found.json().values())


def succeeded(browse: httpx.Client, name: str) -> bool:
    return any(task["state"] == "SUCCESS" for task in tasks(browse, name))


def test_a_drain_shows_its_shard_and_its_counts(worker: WorkerProcess, browse: httpx.Client, door: Lane) -> None:
    receipts = accept.accept(door, "acme", [item(f"memory {n}") for n in range(7)])
    assert all(isinstance(receipt, Receipt) for receipt in receipts)
    eventually(lambda: succeeded(browse, "drain.remember"), 30)
    drain = next(task for task in tasks(browse, "drain.remember") if "stored" in task["result"])
    assert drain["args"] == f"({door.cluster.shard_of('acme', 'ada')},)"
    assert re.fullmatch(r"\{'wakeup': '[0-9a-f]{32}'\}", drain["kwargs"])
    assert drain["result"] == "'stored 7, searchable 7'"
    assert drain["worker"].startswith(worker.name)


def test_no_content_and_no_password_gets_into_flower(
    worker: WorkerProcess, flower: LocalProcess, browse: httpx.Client, door: Lane, cluster_settings: Settings
) -> None:
    app = make_app(cluster_settings)
    shard = door.cluster.shard(door.cluster.shard_of("acme", "ada"))
    with sql(cluster_settings, shard.node.name) as connection, connection.transaction():
        connection.execute(f"LOCK TABLE {shard.schema}.ids".encode())  # the task waits here, and can be looked at
        memory = {"agent": "ada", "content": CANARY, "metadata": {"note": CANARY}}
        app.send_task("memory.remember", kwargs={"tenant": "acme", **memory}, queue="memory")
        eventually(lambda: [task["state"] for task in tasks(browse, "memory.remember")] == ["STARTED"], 20)
        (name,) = browse.get("/api/workers", params={"refresh": "1"}).json()
        under_way = browse.get(f"/worker/{quote(name)}").text
        assert re.search(r"memory\.remember", under_way)
        assert "(not shown)" in under_way
        assert CANARY not in under_way
    app.send_task("memory.remember", args=[CANARY], kwargs={"tenant": "acme", "what": CANARY}, queue="memory")
    app.send_task("memory.nonsense", args=[CANARY], queue="memory")
    eventually(lambda: [task["state"] for task in tasks(browse, "memory.remember")] == ["SUCCESS"] * 2, 30)
    eventually(lambda: succeeded(browse, "drain.remember"), 30)
    for text in pages(browse, name):
        assert CANARY not in text
        assert (urlsplit(cluster_settings.broker_url.get_secret_value()).password or "hunter2") + "@" not in text
    assert {task["args"] for task in tasks(browse, "memory.remember")} == {"(not shown)"}
    flower.kill(signal.SIGTERM)
    assert flower.wait() == 0
    assert worker.status == "running"
    for path in [flower.log, *Path(flower.command.env["MEMLANE_FLOWER_DB"]).parent.iterdir()]:
        assert CANARY.encode() not in path.read_bytes(), path


def pages(browse: httpx.Client, worker: str) -> Iterator[str]:
    """All that Flower has to show."""
    known = browse.get("/api/tasks").json()
    paths = [
        "/",
        "/workers",
        "/tasks",
        "/broker",
        "/metrics",
        "/api/tasks",
        "/api/task/types",
        "/api/workers?refresh=1",
    ]
    paths += [f"/worker/{quote(worker)}", "/workers?json=1"]
    paths += [f"/{kind}/{task}" for task in known for kind in ("task", "api/task/info")]
    columns = "&columns[0][data]=name&order[0][column]=0&order[0][dir]=asc&search[value]="
    for path in [*paths, f"/tasks/datatable?draw=1&start=0&length=100{columns}"]:
        answer = browse.get(path)
        assert answer.status_code == 200, path
        yield answer.text


def test_what_was_seen_outlives_a_restart(
    worker: WorkerProcess, flower: LocalProcess, browse: httpx.Client, door: Lane
) -> None:
    accept.accept(door, "acme", [item("a memory")])
    eventually(lambda: succeeded(browse, "drain.remember"), 30)
    Path(flower.command.env["MEMLANE_READY_FILE"]).unlink()
    flower.restart()
    assert succeeded(browse, "drain.remember")
    assert worker.status == "running"
    for path in Path(flower.command.env["MEMLANE_FLOWER_DB"]).parent.iterdir():
        assert path.stat().st_mode & 0o077 == 0


def test_nobody_looks_without_the_password_and_nobody_acts(worker: WorkerProcess, browse: httpx.Client) -> None:
    for auth in (None, ("memlane", "wrong"), ("somebody", PASSWORD)):
        for path in ("/", "/tasks", "/api/tasks", "/api/workers"):
            assert httpx.get(str(browse.base_url.join(path)), auth=auth).status_code == 401
    (name,) = browse.get("/api/workers", params={"refresh": "1"}).json()
    for path in (
        f"worker/shutdown/{name}",
        "task/send-task/drain.remember",
        "task/revoke/x",
        f"worker/pool/grow/{name}",
    ):
        assert browse.post(f"/api/{path}", json={"args": [1]}).status_code == 403
    assert worker.status == "running"
    assert tasks(browse, "drain.remember") == []


def started(settings: Settings, **more: str) -> "subprocess.CompletedProcess[str]":
    """Flower that does not start."""
    env = {**os.environ, **environment(settings), **more}
    return subprocess.run(FLOWER, env=env, capture_output=True, text=True, timeout=60, check=False)


def test_what_is_wrong_is_one_line(settings: Settings, tmp_path: Path) -> None:
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        state = {"MEMLANE_FLOWER_DB": str(tmp_path / "state")}
        cases: list[tuple[dict[str, str], str]] = [
            ({"MEMLANE_FLOWER_HOST": "0.0.0.0"}, "needs a password: set MEMLANE_FLOWER_PASSWORD"),  # noqa: S104
            ({"MEMLANE_FLOWER_HOST": ""}, "needs a password"),
            ({"MEMLANE_FLOWER_HOST": "::"}, "needs a password"),
            ({"MEMLANE_FLOWER_PASSWORD": "schlüssel"}, "ASCII"),
            ({"MEMLANE_FLOWER_USER": "a:b"}, "MEMLANE_FLOWER_USER"),
            ({"MEMLANE_FLOWER_DB": "/proc/nowhere/state"}, "cannot be made"),
            ({"MEMLANE_BROKER_URL": f"redis://127.0.0.1:{free_port()}/0"}, "the broker does not answer"),
            ({"MEMLANE_BROKER_URL": f"amqp://127.0.0.1:{free_port()}//"}, "the broker does not answer"),
            ({"MEMLANE_FLOWER_PORT": str(busy.getsockname()[1])}, "cannot listen"),
        ]
        runs: dict[int, subprocess.CompletedProcess[str]] = {}

        def run(number: int, told: dict[str, str]) -> None:
            runs[number] = started(settings, **{**state, **told})

        threads = [Thread(target=run, args=(number, told)) for number, (told, _) in enumerate(cases)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for number, (_, said) in enumerate(cases):
        done = runs[number]
        assert done.returncode == 1, done.stderr
        assert said in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1, done.stderr
        assert "schlüssel" not in done.stderr
