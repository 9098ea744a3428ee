"""A worker and a gateway whose map is old: they write nothing to the place where a shard was, and find where it is."""

import os
import subprocess
from collections.abc import Callable, Sequence

import pytest

from memlane.config.settings import Settings
from memlane.embedded.postgres import Postgres, binaries
from memlane.storage.cluster import Shard
from memlane.storage.jobs import Kind
from memlane.tasks.lane import Lane
from memlane.tasks.provider import Embedded, Wanted
from memlane.workers import drains
from memlane.workers.drains import Process
from tests.support import accepted, count_rows, drain_all, item, ledger_of, process_of, remembered, sql

pytestmark = pytest.mark.faults


def move(settings: Settings, postgres: Postgres, shard: Shard, to: str) -> None:
    """Move a shard as an operator would by hand: close it, copy it, open it there, and say so in the map."""
    with sql(settings, shard.node.name) as before:
        before.execute(f"UPDATE {shard.schema}.meta SET state = 'moved'".encode())
    programs = binaries(postgres.folder)
    source, target = (settings.nodes[node].get_secret_value() for node in (shard.node.name, to))
    dump = [str(programs / "pg_dump"), "--schema", shard.schema, "--dbname", source]
    made = subprocess.run(dump, capture_output=True, check=True, env=os.environ).stdout
    load = [str(programs / "psql"), "--quiet", "--set", "ON_ERROR_STOP=1", "--dbname", target]
    subprocess.run(load, input=made, capture_output=True, check=True)
    with sql(settings, to) as after:
        after.execute(f"UPDATE {shard.schema}.meta SET state = 'active', epoch = epoch + 1".encode())
    with sql(settings) as control:
        control.execute(b"UPDATE control.shards SET node = %s, epoch = epoch + 1 WHERE shard = %s", (to, shard.number))


def counts(settings: Settings, node: str, shard: Shard) -> dict[str, int]:
    """What a node holds of a shard."""
    with sql(settings, node) as connection:

        def rows(table: str) -> int:
            found = connection.execute(f"SELECT count(*) FROM {shard.schema}.{table}".encode()).fetchone()
            assert found is not None
            return int(found[0])

        tables = ("jobs", "jobs WHERE lease IS NOT NULL", "ids", "memories", "ledger", "leases")
        return {table: rows(table) for table in tables}


@pytest.mark.parametrize("does", ["accepts", "drains", "holds jobs"])
def test_an_old_map_writes_nothing_to_the_old_place(
    make_lane: Callable[[Settings], Lane], settings: Settings, postgres: Postgres, shard: Shard, does: str
) -> None:
    old = make_lane(settings)
    remembered(old, item("stored before"))
    accepted(old, item("open before"))
    process = process_of(old)
    to = "node-1" if shard.node.name == "node-2" else "node-2"
    there: list[dict[str, int]] = []

    def moving() -> None:
        move(settings, postgres, shard, to)
        there.append(counts(settings, shard.node.name, shard))

    if does == "holds jobs":
        _drain_while(process, moving, shard)
    else:
        moving()
    if does == "accepts":
        accepted(old, item("afterwards"))
    elif does == "drains":
        drains.drain(process, "drain.remember", shard.number)
    assert counts(settings, shard.node.name, shard) == there[0]
    assert old.cluster.shard(shard.number).node.name == to
    if does == "accepts":
        drain_all(old, Kind.REMEMBER)
    assert count_rows(settings, old.cluster, "memories") == (3 if does == "accepts" else 2)
    assert count_rows(settings, old.cluster, "jobs") == count_rows(settings, old.cluster, "leases") == 0
    assert ledger_of(old.cluster, "acme").balanced


def _drain_while(process: Process, moving: Callable[[], None], shard: Shard) -> None:
    """The shard moves while its jobs are worked on, and their lease with it."""
    gate = process.lane.provider
    real = gate.embed

    def embed(wanted: Sequence[Wanted], patience_s: float) -> Embedded:
        gate.embed = real  # type: ignore[method-assign]
        moving()
        return real(wanted, patience_s)

    gate.embed = embed  # type: ignore[method-assign]
    drains.drain(process, "drain.remember", shard.number)
