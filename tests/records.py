"""What this version writes for others to read, made anew: messages as brokers hold them, and the rows of jobs."""

import base64
import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import redis
from celery import Celery
from celery.beat import Scheduler
from kombu.connection import Connection

from memlane.beat.schedule import schedule
from memlane.config.settings import Settings
from memlane.contract import MemoryUpdate
from memlane.contract.parsing import parse
from memlane.contract.requests import ForgetMatching
from memlane.storage import jobs
from memlane.storage.jobs import Kind, Terms
from memlane.tasks import batch_embed, forget, optimize
from memlane.tasks.lane import Lane
from memlane.tasks.update import update_memory
from memlane.workers.app import make_app
from memlane.workers.wakeups import DRAIN_OF
from tests.support import accepted, item, remembered, sql

FOLDER = Path(__file__).parent / "recorded"

TENANT = "acme"
SHARD = 1
"""Where agent `ada` of that tenant lives, of four shards: what is woken."""

TABLES = ("agents", "threads", "ids", "memories", "versions", "jobs", "leases", "ledger")
"""The tables that say what is to be done, and about what."""

ALL_FIELDS: dict[str, Any] = {
    "kind": "turn",
    "importance": 0.75,
    "tags": ["drink", "tea"],
    "metadata": {"source": {"page": 7, "weights": [0.5, None, True]}},
    "occurred_at": datetime(2026, 11, 1, 12, tzinfo=UTC),
    "thread": "kitchen",
    "speaker": "Caroline",
    "expires_at": datetime(2126, 11, 1, tzinfo=UTC),
    "pinned": True,
}

PRODUCED: Mapping[str, dict[str, Any]] = {
    "memory.remember": {
        "tenant": TENANT,
        "agent": "mia",
        "content": "green tea",
        "key": "k",
        "metadata": {"n": 1},
        "occurred_at": "2026-11-01T12:00:00Z",
        "tags": ["drink"],
        "importance": 0.75,
    },
    "memory.batch_embed": {"tenant": TENANT, "texts": ["what will be asked"]},
    "memory.optimize": {"tenant": TENANT, "agent": "mia"},
    "memory.forget": {"tenant": TENANT, "agent": "nobody"},
}
"""What producers send."""


def recorded(name: str) -> dict[str, Any]:
    """A record, by the name of its version and file."""
    found: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text())
    return found


def keep(name: str, record: object) -> None:
    """Write a record down."""
    path = FOLDER / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    text = json.dumps(record, indent=1, sort_keys=True, ensure_ascii=False)
    path.write_text(_ORIGIN.sub("gen1@host", text) + "\n")


def senders(app: Celery, settings: Settings) -> Mapping[str, Callable[[], object]]:
    """What sends each task, as it is sent: by a wake-up, by beat, by producers."""
    scheduler = Scheduler(app, schedule=schedule(settings), lazy=True)
    scheduler.update_from_dict(schedule(settings))
    wakes = {name: partial(app.send_task, name, args=(SHARD,)) for name in sorted(set(DRAIN_OF.values()))}
    beats = {entry.task: partial(scheduler.apply_async, entry, advance=False) for entry in scheduler.schedule.values()}
    produces = {
        name: lambda name=name, given=given: app.send_task(name, kwargs=given) for name, given in PRODUCED.items()
    }
    return {**wakes, **beats, **produces}


def messages(settings: Settings) -> dict[str, Any]:
    """Each task as the broker of these settings holds it, with its queue."""
    app = make_app(settings)
    url = settings.broker_url.get_secret_value()
    take = _from_redis if url.startswith("redis") else _from_rabbitmq
    found = {}
    for name, send in senders(app, settings).items():
        send()
        queue = app.amqp.router.route({}, name)["queue"].name
        found[name] = {"queue": queue, **take(url, queue)}
    app.close()
    return found


def _from_redis(url: str, queue: str) -> dict[str, Any]:
    with redis.Redis.from_url(url) as client:
        taken = client.rpop(queue)
        assert isinstance(taken, bytes), queue
        return {"raw": taken.decode()}


def _from_rabbitmq(url: str, queue: str) -> dict[str, Any]:
    with Connection(url) as connection:  # type: ignore[no-untyped-call]  # kombu is not typed
        message = connection.channel().basic_get(queue, no_ack=True)
        assert message is not None, queue
        body = message.body if isinstance(message.body, str) else message.body.decode()
        added = {"application_headers", "x-delivery-count"}  # by the client, and by the server
        headers, properties = (
            {name: value for name, value in given.items() if name not in added}
            for given in (message.headers, message.properties)
        )
        return {"body": body, "headers": headers, "properties": properties}


def take(url: str, queue: str) -> dict[str, Any]:
    """The next message of a queue: its headers and body."""
    if url.startswith("redis"):
        envelope = json.loads(_from_redis(url, queue)["raw"])
        return {"headers": envelope["headers"], "body": json.loads(base64.b64decode(envelope["body"]))}
    found = _from_rabbitmq(url, queue)
    return {"headers": found["headers"], "body": json.loads(found["body"])}


def put(url: str, message: Mapping[str, Any], change: Callable[[dict[str, Any], list[Any]], None]) -> None:
    """Put a recorded message into the queue that it was taken from, after headers and body have been changed."""
    if "raw" in message:
        envelope = json.loads(message["raw"])
        body = json.loads(base64.b64decode(envelope["body"]))
        change(envelope["headers"], body)
        envelope["body"] = base64.b64encode(json.dumps(body).encode()).decode()
        with redis.Redis.from_url(url) as client:
            client.lpush(message["queue"], json.dumps(envelope))
        return
    body, headers, properties = json.loads(message["body"]), dict(message["headers"]), dict(message["properties"])
    change(headers, body)
    with Connection(url) as connection:  # type: ignore[no-untyped-call]  # kombu is not typed
        channel = connection.channel()
        known = {
            name: properties.pop(name)
            for name in ("content_type", "content_encoding", "priority")
            if name in properties
        }
        made = channel.prepare_message(json.dumps(body), headers=headers, properties=properties, **known)
        channel.basic_publish(made, exchange="", routing_key=message["queue"])


def rows(lane: Lane) -> dict[str, Any]:
    """The rows of jobs of each kind, and of what they are about, as this version writes them: by shard and table."""
    first, _ = remembered(lane, item("green tea", key="first"), item("of bob", "bob"))
    accepted(lane, item("all of it", key="all", supersedes=first.id, **ALL_FIELDS), item("plain"))
    shard = lane.cluster.shard_of(TENANT, "ada")
    lane.cluster.on(shard, lambda here: jobs.claim(here, Kind.REMEMBER, Terms("a holder", 30.0, 1)))
    assert update_memory(lane, TENANT, "ada", first.id, parse(MemoryUpdate, {"content": "black tea"}))
    batch_embed.open_texts(lane, 3, TENANT, ["what will be asked"])
    assert forget.forget_agent(lane, TENANT, "bob")
    remembered_later = item("a draft", "eve", tags=["draft"])
    accepted(lane, remembered_later)
    wanted = parse(ForgetMatching, {"tags": ["draft"], "since": datetime(2020, 1, 1, tzinfo=UTC)})
    assert forget.forget_matching(lane, TENANT, "eve", wanted.filters, dry_run=False)
    assert optimize.request(lane, TENANT, "ada")
    optimize.request_shard(lane, 1)
    return {str(number): _tables(lane, number) for number in range(lane.cluster.shard_count)}


def _tables(lane: Lane, number: int) -> dict[str, Any]:
    shard = lane.cluster.shard(number)
    found = {}
    with sql(lane.settings, shard.node.name) as connection:
        for table in TABLES:
            query = f"SELECT to_jsonb(t) FROM {shard.schema}.{table} t ORDER BY to_jsonb(t)::text"
            found[table] = [row for (row,) in connection.execute(query.encode())]
    return {table: listed for table, listed in found.items() if listed}


def restore(lane: Lane, record: Mapping[str, Any]) -> None:
    """Put recorded rows into a fresh cluster; columns that a version did not have yet get their defaults."""
    for number, tables in record.items():
        shard = lane.cluster.shard(int(number))
        with sql(lane.settings, shard.node.name) as connection:
            for table, listed in tables.items():
                for row in listed:
                    place, columns = f"{shard.schema}.{table}", ", ".join(row)
                    query = f"INSERT INTO {place} ({columns}) OVERRIDING SYSTEM VALUE SELECT {columns} "
                    query += f"FROM jsonb_populate_record(NULL::{place}, %s::jsonb)"
                    connection.execute(query.encode(), (json.dumps(row),))
            connection.execute(f"SELECT setval('{shard.schema}.numbers', 1000)".encode())
            connection.execute(f"ALTER TABLE {shard.schema}.agents ALTER number RESTART WITH 1000".encode())


_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_TIME = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?([+-]\d\d:\d\d|Z)?")
_ORIGIN = re.compile(r"gen\d+@[\w.-]+")


def shape(value: Any) -> Any:
    """A record without what is different each time: ids, moments, names of machines."""
    if isinstance(value, dict):
        made = {name: shape(inner) for name, inner in value.items()}
        if "raw" in made:
            envelope = json.loads(value["raw"])
            made["raw"] = shape({**envelope, "body": json.loads(base64.b64decode(envelope["body"]))})
        return made
    if isinstance(value, list):
        return sorted((shape(inner) for inner in value), key=lambda one: json.dumps(one, sort_keys=True))
    if isinstance(value, str):
        for pattern, name in ((_UUID, "<id>"), (_TIME, "<time>"), (_ORIGIN, "<origin>")):
            value = pattern.sub(name, value)
    return value
