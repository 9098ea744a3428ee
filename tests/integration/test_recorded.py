"""Versions side by side: what each version has written is understood, and what this one writes is as recorded.

tests/recorded/ has the messages and rows of jobs of each version. Whoever changes their form finds out here: the older
version's workers have to understand the new form as well, while both run. MEMLANE_RECORD=1 writes down what is
written now.
"""

import os
from collections.abc import Callable
from typing import Any

import pytest

from memlane.beat.sweep import sweep_shard
from memlane.config.settings import Settings
from memlane.embedded.redis import Redis
from memlane.storage import forget as forgetting
from memlane.storage import jobs, status
from memlane.storage.jobs import Kind
from memlane.tasks.lane import Lane
from tests.processes import RabbitMQ
from tests.records import FOLDER, TENANT, keep, messages, recorded, restore, rows, shape
from tests.support import MakeSettings, Recorder, accepted, count_rows, drain_all, item, ledger_of, remembered, sql

VERSIONS = sorted(path.parent.name for path in FOLDER.glob("*/rows.json"))
NEWEST = "0.2.0"
RECORD = os.environ.get("MEMLANE_RECORD") == "1"


def as_recorded(name: str, written: dict[str, Any]) -> None:
    """What is written now is as recorded, or is recorded now."""
    if RECORD:
        keep(f"{NEWEST}/{name}", written)
    assert shape(written) == shape(recorded(f"{NEWEST}/{name}")), (
        f"the form of {name} has changed: can the version before read it? Then MEMLANE_RECORD=1 writes the new one down"
    )


def test_messages_in_redis_are_as_recorded(make_settings: MakeSettings, redis_server: Redis) -> None:
    as_recorded("messages-redis", messages(make_settings(broker_url=redis_server.uri(9))))


@pytest.mark.rabbitmq
def test_messages_in_rabbitmq_are_as_recorded(make_settings: MakeSettings, rabbitmq: RabbitMQ) -> None:
    as_recorded("messages-rabbitmq", messages(make_settings(broker_url=rabbitmq.vhost("recorded"))))


def test_rows_of_jobs_are_as_recorded(lane: Lane) -> None:
    as_recorded("rows", rows(lane))


def with_more(record: dict[str, Any]) -> dict[str, Any]:
    """Rows as a newer version may write them: with more in each payload."""
    changed = {number: {**tables} for number, tables in record.items()}
    for tables in changed.values():
        tables["jobs"] = [
            {**job, "payload": {**job["payload"], "mood": {"later": [1]}}} for job in tables.get("jobs", [])
        ]
    return changed


@pytest.mark.parametrize("change", [lambda record: record, with_more], ids=["as-it-was", "with-more"])
@pytest.mark.parametrize("version", VERSIONS)
def test_the_jobs_of_each_version_are_done(
    version: str, change: Callable[[dict[str, Any]], dict[str, Any]], lane: Lane, settings: Settings
) -> None:
    record = recorded(f"{version}/rows")
    kinds = {job["kind"] for tables in record.values() for job in tables.get("jobs", [])}
    assert kinds == {kind.value for kind in Kind}
    restore(lane, change(record))
    assert count_rows(settings, lane.cluster, "leases") == 1
    for shard in lane.cluster.shards():
        sweep_shard(lane, shard, lambda _kind, _shard: True)
    drain_all(lane, Kind.REMEMBER)  # which opens no embed jobs: there is a vector for each
    drain_all(lane)
    assert count_rows(settings, lane.cluster, "leases") == 0
    assert count_rows(settings, lane.cluster, "jobs") == 0
    contents = {"black tea", "all of it", "plain"}
    listed = ", ".join(f"'{content}'" for content in contents)
    assert count_rows(settings, lane.cluster, "memories") == 3
    assert count_rows(settings, lane.cluster, "memories", f"content IN ({listed})") == 3
    assert count_rows(settings, lane.cluster, lane.table) == 3
    assert count_rows(settings, lane.cluster, "embedding_cache") >= 4
    assert ledger_of(lane.cluster, TENANT).balanced


def test_a_filter_of_a_newer_version_is_left_to_it(lane: Lane, settings: Settings) -> None:
    """Without a filter that we do not know, more would be forgotten than was asked for."""
    (receipt,) = remembered(lane, item("a draft", tags=["draft"]))
    number = lane.cluster.shard_of(TENANT, "ada")
    payload = {"filters": {"tags": ["draft"], "mood": "sad"}, "upto": 10**6}
    lane.cluster.on(number, lambda shard: forgetting.open_matching(shard, TENANT, 1, receipt.id, payload))
    for _ in range(20):
        drain_all(lane, Kind.FORGET)
    with sql(settings, lane.cluster.shard(number).node.name) as connection:
        query = f"SELECT parked_at, deaths, lease, not_before > now(), error FROM shard_{number:02d}.jobs"
        assert connection.execute(query.encode()).fetchall() == [
            (None, 0, None, True, "it has a filter that this version does not know")
        ]
    assert count_rows(settings, lane.cluster, "memories") == 1


def test_a_kind_of_job_of_a_newer_version_is_left_to_it(lane: Lane, settings: Settings) -> None:
    """It is seen in the state of the whole, and nobody of ours touches it."""
    accepted(lane, item("tea"))
    shard = lane.cluster.shard(lane.cluster.shard_of(TENANT, "ada"))
    with sql(settings, shard.node.name) as connection:
        for statement in (
            f"ALTER TABLE {shard.schema}.jobs DROP CONSTRAINT jobs_kind_check",  # as the newer version's migration did
            f"""INSERT INTO {shard.schema}.jobs (number, kind, tenant, id, payload)
                VALUES (999, 'dream', 'acme', gen_random_uuid(), '{{}}')""",
        ):
            connection.execute(statement.encode())
    recorder = Recorder()

    def send(kind: Kind, number: int) -> bool:
        recorder(kind, number)
        return True

    sweep_shard(lane, shard, send)
    assert recorder.take() == [(Kind.REMEMBER, shard.number)]
    drain_all(lane)
    assert [(one.kind, one.open) for one in jobs.backlog(shard)] == [("dream", 1)]
    assert [(one.kind, one.open) for one in status.summed([jobs.backlog(shard)])] == [("dream", 1)]
    assert count_rows(settings, lane.cluster, "jobs", "kind = 'dream' AND deaths = 0 AND parked_at IS NULL") == 1
    assert count_rows(settings, lane.cluster, "memories") == 1
