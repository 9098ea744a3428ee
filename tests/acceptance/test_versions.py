"""A worker beside other versions: recorded messages are done, and what only a newer version knows is left to it."""

from collections.abc import Callable
from typing import Any

import pytest

from memlane.config.settings import Settings
from memlane.contract import MemoryItem
from memlane.tasks.lane import Lane
from memlane.workers.app import make_app
from tests.local import WorkerProcess
from tests.records import FOLDER, PRODUCED, TENANT, put, recorded, restore, take
from tests.support import accepted, count_rows, eventually, item, ledger_of, sql

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(240)]

VERSIONS = sorted(path.parent.name for path in FOLDER.glob("*/messages-redis.json"))
EVERY_QUEUE = "memory,remember,embed,optimize,maintenance,sweep"


@pytest.fixture
def brokers_url(cluster_settings: Settings) -> str:
    return cluster_settings.broker_url.get_secret_value()


def in_time(headers: dict[str, Any], _body: list[Any]) -> None:
    """As recorded, but that it has not expired meanwhile."""
    headers["expires"] = None


def with_more(headers: dict[str, Any], body: list[Any]) -> None:
    """As a newer version may send it: with more in its headers, and more arguments for what is no producer's."""
    in_time(headers, body)
    headers["mood"] = {"later": 1}
    body[2]["mood"] = [1]
    if not headers["task"].startswith("memory."):
        body[1]["hurry"] = True


@pytest.mark.parametrize("change", [in_time, with_more])
@pytest.mark.parametrize("version", VERSIONS)
def test_recorded_messages_are_done(
    version: str,
    change: Callable[[dict[str, Any], list[Any]], None],
    start_worker: Callable[..., WorkerProcess],
    cluster_settings: Settings,
    door: Lane,
    brokers_url: str,
) -> None:
    settings, cluster = cluster_settings, door.cluster
    kind = "redis" if brokers_url.startswith("redis") else "rabbitmq"
    messages = recorded(f"{version}/messages-{kind}")
    assert set(messages) >= {*PRODUCED, "beat.sweep", "drain.remember"}
    restore(door, recorded(f"{version}/rows"))
    worker = start_worker("ingest", EVERY_QUEUE)

    def send(*names: str) -> None:
        for name in names:
            put(brokers_url, messages[name], change)

    send(*(name for name in messages if name.startswith("drain.")))
    eventually(lambda: count_rows(settings, cluster, "memories", "content IN ('black tea', 'plain')") == 2, 60)
    eventually(lambda: count_rows(settings, cluster, "jobs", "kind IN ('optimize', 'embed')") == 0, 60)
    eventually(lambda: count_rows(settings, cluster, "leases") == 1, 60)  # of a holder that is no more
    send("beat.sweep")
    eventually(lambda: count_rows(settings, cluster, "jobs") == 0, 60)
    assert count_rows(settings, cluster, "leases") == 0
    make_app(settings).send_task("beat.analyze")  # a duty that there is no more
    send(*PRODUCED, "beat.moments", "beat.expire")
    eventually(lambda: count_rows(settings, cluster, "memories", "content = 'green tea'") == 1, 60)
    eventually(lambda: count_rows(settings, cluster, "jobs") == 0, 60)
    with sql(settings) as connection:
        done = b"SELECT DISTINCT name FROM control.ticks WHERE done_at IS NOT NULL ORDER BY name"
        eventually(lambda: connection.execute(done).fetchall() == [("expire",), ("moments",)], 60)
    assert count_rows(settings, cluster, "strays") == 0
    assert ledger_of(cluster, TENANT).balanced
    assert worker.status == "running"
    assert "Traceback" not in worker.logs()
    assert "message.for_others" not in worker.logs()


def test_a_producers_field_of_a_newer_version_is_kept(
    start_worker: Callable[..., WorkerProcess], cluster_settings: Settings, door: Lane
) -> None:
    """A memory without a field that somebody gave it would be another memory: the message is kept, with the reason."""
    start_worker("ingest", EVERY_QUEUE)
    app = make_app(cluster_settings)
    given = {"tenant": TENANT, "agent": "ada", "content": "tea"}
    assert "mood" not in MemoryItem.model_fields
    app.send_task("memory.remember", kwargs={**given, "mood": "sad"})
    app.send_task("memory.remember", kwargs=given)
    eventually(lambda: count_rows(cluster_settings, door.cluster, "memories") == 1, 60)
    eventually(
        lambda: (
            count_rows(cluster_settings, door.cluster, "strays", "payload::jsonb->'items'->0->>'mood' = 'sad'") == 1
        ),
        60,
    )


def test_a_task_of_a_newer_version_stays_in_its_queue(
    start_worker: Callable[..., WorkerProcess], cluster_settings: Settings, door: Lane, brokers_url: str
) -> None:
    """More of them than a worker takes at once hold nothing up; what is nobody's task is dropped."""
    app = make_app(cluster_settings)
    dreams = [{"tenant": TENANT, "content": f"dream {number}"} for number in range(12)]
    for dream in dreams:
        app.send_task("memory.dream", kwargs=dream)
    app.send_task("nobodys.task", queue="memory")
    worker = start_worker("ingest", EVERY_QUEUE)
    eventually(lambda: worker.logs().count("message.for_others") >= len(dreams), 60)
    for number in range(20):
        app.send_task("memory.remember", kwargs={"tenant": TENANT, "agent": "ada", "content": f"tea {number}"})
    eventually(lambda: count_rows(cluster_settings, door.cluster, "memories") == 20, 60)
    accepted(door, item("one more"))
    eventually(lambda: count_rows(cluster_settings, door.cluster, "memories") == 21, 60)
    worker.kill("SIGTERM")
    assert worker.wait(60) == 0
    left = [take(brokers_url, "memory") for _ in dreams]
    assert sorted(one["headers"]["task"] for one in left) == ["memory.dream"] * len(dreams)
    assert sorted(one["body"][1]["content"] for one in left) == sorted(dream["content"] for dream in dreams)
    assert "message.unknown_task" in worker.logs()
