"""Backups: taken while everything goes on, restored into other numbers of nodes, refused when they are not whole."""

import json
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event, Thread
from typing import Any

import psycopg
import pytest

from memlane.config.settings import Settings
from memlane.contract import MemoryUpdate, RecallRequest, Receipt, State
from memlane.embedded.postgres import Postgres
from memlane.errors import Misconfigured, NodeDown, NotMigrated, ServerError, ShardMoved
from memlane.storage import ids, jobs, tenants
from memlane.storage.backup import manifest, programs
from memlane.storage.backup.dump import backup
from memlane.storage.backup.restore import restore
from memlane.storage.cluster import Cluster
from memlane.storage.jobs import Kind, Terms
from memlane.tasks import accept
from memlane.tasks.lane import Lane
from memlane.tasks.update import update_memory
from tests.support import (
    MakeSettings,
    accepted,
    count_rows,
    drain_all,
    item,
    ledger_of,
    recalled,
    remembered,
    sql,
)

MakeEmpty = Callable[[int], Settings]


@pytest.fixture
def make_empty(postgres: Postgres, settings: Settings) -> Iterator[MakeEmpty]:
    """Makes settings of so many nodes without any data."""
    made: list[str] = []

    def build(nodes: int) -> Settings:
        names = [f"empty_{secrets.token_hex(4)}" for _ in range(nodes)]
        with psycopg.connect(postgres.uri("postgres"), autocommit=True) as connection:
            for name in names:
                connection.execute(f"CREATE DATABASE {name}".encode())
        made.extend(names)
        kept = settings.model_dump(exclude_unset=True, exclude={"nodes", "shard_count"})
        return Settings(nodes={f"new-{n}": postgres.uri(name) for n, name in enumerate(names, 1)}, **kept)

    yield build
    with psycopg.connect(postgres.uri("postgres"), autocommit=True) as connection:
        for name in made:
            connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)".encode())


def quiet(_what: str) -> None:
    """Nobody looks on."""


def tables(settings: Settings, cluster: Cluster) -> dict[str, list[tuple[object, ...]]]:
    """All rows of all tables of all shards that a restore may not change, read by the test itself."""
    found = {}
    for shard in cluster.shards():
        with sql(settings, shard.node.name) as connection:
            names = connection.execute(
                "SELECT tablename FROM pg_tables WHERE schemaname = %s ORDER BY 1", [shard.schema]
            ).fetchall()
            for (name,) in names:
                if name not in ("meta", "leases"):
                    columns = "to_jsonb(t) - 'lease'"
                    rows = connection.execute(
                        f"SELECT {columns}::text FROM {shard.schema}.{name} t ORDER BY 1".encode()
                    )
                    found[f"{shard.schema}.{name}"] = rows.fetchall()
    return found


def filled(lane: Lane) -> list[Receipt]:
    """A cluster with something of everything: stored, updated, open, leased, forgotten."""
    tenants.create_tenant(lane.cluster.control, "acme")
    receipts = remembered(lane, *(item(f"memory {n}", f"agent-{n % 7}", tags=["t"], key=f"k{n}") for n in range(50)))
    update_memory(lane, "acme", "agent-0", receipts[0].id, MemoryUpdate(content="another"))
    drain_all(lane)
    accepted(lane, *(item(f"open {n}", f"agent-{n % 7}") for n in range(20)))
    jobs.claim(lane.cluster.shards()[0], Kind.REMEMBER, Terms("somebody", 30.0, 3))
    return receipts


@pytest.mark.parametrize("nodes", [1, 2, 3])
def test_all_of_it_comes_back(
    nodes: int,
    lane: Lane,
    settings: Settings,
    make_empty: MakeEmpty,
    make_lane: Callable[[Settings], Lane],
    tmp_path: Path,
) -> None:
    receipts = filled(lane)
    key = tenants.create_key(lane.cluster.control, "acme")
    before = tables(settings, lane.cluster)
    seen: list[str] = []
    made = backup(settings, tmp_path / "backup", seen.append)
    assert sorted(seen) == ["control", "shard_00", "shard_01", "shard_02", "shard_03"]
    assert made.rows == 50
    target = make_empty(nodes)
    done = restore(target, tmp_path / "backup", quiet)
    assert set(done.nodes) == {0, 1, 2, 3}
    assert set(done.nodes.values()) <= set(target.nodes)
    other = make_lane(target)
    assert tables(target, other.cluster) == before
    assert count_rows(target, other.cluster, "jobs", "lease IS NOT NULL") == 0
    assert tenants.authenticate(other.cluster.control, key).principal.tenant == "acme"
    drain_all(other)
    assert count_rows(target, other.cluster, "memories") == 70
    assert ledger_of(other.cluster, "acme").balanced
    (again,) = accept.accept(other, "acme", [item("memory 3", "agent-3", key="k3")])
    assert isinstance(again, Receipt)
    assert (again.id, again.state) == (receipts[3].id, State.DUPLICATE)
    hits = recalled(other, "acme", RecallRequest(agent="agent-3", query="memory 3")).hits
    assert hits[0].memory.content == "memory 3"
    assert hits[0].parts.vector is not None


def test_while_memories_come_in(
    lane: Lane, settings: Settings, make_empty: MakeEmpty, make_lane: Callable[[Settings], Lane], tmp_path: Path
) -> None:
    """What had a receipt before the backup began is in it; each shard balances in itself."""
    before = accepted(lane, *(item(f"before {n}", f"agent-{n % 5}") for n in range(40)))
    stop, going = Event(), Event()

    def load() -> None:
        number = 0
        while not stop.is_set():
            accepted(lane, *(item(f"during {number}.{n}", f"agent-{n}") for n in range(5)))
            drain_all(lane)
            number += 1
            going.set()

    thread = Thread(target=load)
    thread.start()
    going.wait(20)
    try:
        backup(settings, tmp_path / "backup", quiet)
    finally:
        stop.set()
        thread.join()
    target = make_empty(1)
    restore(target, tmp_path / "backup", quiet)
    other = make_lane(target)
    assert ledger_of(other.cluster, "acme").balanced
    drain_all(other)
    for receipt in before:
        shard = other.cluster.shard(other.cluster.shard_of("acme", receipt.agent))
        number = other.numbers.of(shard, "acme", [receipt.agent], register=False)[receipt.agent]
        assert ids.states(shard, [(number, receipt.id)])[number, receipt.id][0] is State.SEARCHABLE


def test_a_cluster_with_data_is_left_alone(lane: Lane, settings: Settings, tmp_path: Path) -> None:
    remembered(lane, item("tea"))
    backup(settings, tmp_path / "backup", quiet)
    with pytest.raises(Misconfigured, match=r"has data of memlane .* DROP SCHEMA"):
        restore(settings, tmp_path / "backup", quiet)
    assert count_rows(settings, lane.cluster, "memories") == 1


def test_another_number_of_shards_is_refused(settings: Settings, make_empty: MakeEmpty, tmp_path: Path) -> None:
    backup(settings, tmp_path / "backup", quiet)
    target = make_empty(1)
    wanted = Settings(**{**target.model_dump(exclude_unset=True), "shard_count": 8})
    with pytest.raises(Misconfigured, match="the backup has 4 shards"):
        restore(wanted, tmp_path / "backup", quiet)
    assert schemas(target) == []


def schemas(settings: Settings) -> list[str]:
    """memlane's schemas on all nodes."""
    found = []
    for node in settings.nodes:
        with sql(settings, node) as connection:
            found += connection.execute(
                "SELECT nspname FROM pg_namespace WHERE nspname = 'control' OR nspname LIKE 'shard%'"
            ).fetchall()
    return [name for (name,) in found]


def _truncate(folder: Path) -> None:
    path = folder / "shard_02.dump"
    path.write_bytes(path.read_bytes()[:-100])


def _flip(folder: Path) -> None:
    path = folder / "shard_01.dump"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 255
    path.write_bytes(data)


def _later(folder: Path) -> None:
    _edit(folder, lambda raw: raw["schemas"][0]["migrations"].append(["shard", "0099_pre_later"]))


def _edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "manifest.json"
    raw = json.loads(path.read_text())
    change(raw)
    path.write_text(json.dumps(raw))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_truncate, r"shard_02.dump has \d+ bytes instead of \d+: the backup was truncated"),
        (_flip, "shard_01.dump is not as it was written"),
        (lambda folder: (folder / "control.dump").unlink(), "control.dump is missing"),
        (lambda folder: (folder / "manifest.json").unlink(), "it is no backup, or one that was broken off"),
        (lambda folder: (folder / "manifest.json").write_text("{"), "cannot be read"),
        (lambda folder: (folder / "manifest.json").write_text("[]"), "backup of format None"),
        (lambda folder: _edit(folder, lambda raw: raw.update(format=2)), "backup of format 2"),
        (lambda folder: _edit(folder, lambda raw: raw.pop("shard_count")), "is not as it was written"),
        (_later, r"has a step 0099_pre_later that this version, .*, does not know"),
    ],
)
def test_a_backup_that_is_not_whole(
    spoil: Callable[[Path], object], said: str, settings: Settings, make_empty: MakeEmpty, tmp_path: Path
) -> None:
    backup(settings, tmp_path / "backup", quiet)
    spoil(tmp_path / "backup")
    target = make_empty(1)
    with pytest.raises(Misconfigured, match=said):
        restore(target, tmp_path / "backup", quiet)
    assert schemas(target) == []


def test_a_restore_that_fails_takes_away_what_it_made(
    settings: Settings, make_empty: MakeEmpty, tmp_path: Path
) -> None:
    """A dump that is whole by its sum, but that pg_restore cannot read: the last one, control's."""
    backup(settings, tmp_path / "backup", quiet)
    path = tmp_path / "backup" / "control.dump"
    path.write_bytes(b"PGDMP nonsense")
    sums = {"sha256": manifest.sum_of(path), "bytes": path.stat().st_size}
    _edit(tmp_path / "backup", lambda raw: raw["schemas"][-1].update(sums))
    target = make_empty(2)
    with pytest.raises(ServerError, match="pg_restore failed on node new-1"):
        restore(target, tmp_path / "backup", quiet)
    assert schemas(target) == []


def test_a_folder_with_something_in_it(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "note").write_text("mine")
    with pytest.raises(Misconfigured, match="not empty"):
        backup(settings, tmp_path, quiet)
    backup(settings, tmp_path / "backup", quiet)
    for path in [tmp_path / "backup", *(tmp_path / "backup").iterdir()]:
        assert path.stat().st_mode & 0o077 == 0, path


def test_nodes_that_are_missing_empty_or_down(settings: Settings, make_empty: MakeEmpty, tmp_path: Path) -> None:
    with pytest.raises(NotMigrated, match="nothing to back up"):
        backup(make_empty(1), tmp_path / "a", quiet)
    one = settings.model_copy(update={"nodes": {"node-1": settings.nodes["node-1"]}})
    with pytest.raises(Misconfigured, match="node-2"):
        backup(one, tmp_path / "b", quiet)
    dead = Settings(nodes={"x": "postgresql://u:hunter2@127.0.0.1:1/x"}, embedder="hash")
    with pytest.raises(NodeDown) as caught:
        backup(dead, tmp_path / "c", quiet)
    assert "hunter2" not in str(caught.value)


def test_a_shard_that_is_moving(lane: Lane, settings: Settings, tmp_path: Path) -> None:
    shard = lane.cluster.shard(2)
    with sql(settings, shard.node.name) as connection:
        connection.execute(f"UPDATE {shard.schema}.meta SET epoch = epoch + 1".encode())
    with pytest.raises(ShardMoved):
        backup(settings, tmp_path / "backup", quiet)
    assert not (tmp_path / "backup" / "manifest.json").exists()


def test_a_stale_process_may_not_write_where_it_was_restored(
    lane: Lane, settings: Settings, make_empty: MakeEmpty, make_lane: Callable[[Settings], Lane], tmp_path: Path
) -> None:
    remembered(lane, item("tea"))
    old = lane.cluster.shard(0).epoch
    backup(settings, tmp_path / "backup", quiet)
    target = make_empty(1)
    restore(target, tmp_path / "backup", quiet)
    assert make_lane(target).cluster.shard(0).epoch == old + 1


def test_a_server_that_is_newer_than_all_programs() -> None:
    with pytest.raises(Misconfigured, match="pg_dump of Postgres 99 or later is needed"):
        programs.program("pg_dump", 990001)


def test_no_password_among_the_arguments(settings: Settings, make_settings: MakeSettings) -> None:
    assert make_settings().nodes != settings.nodes
    uri = settings.nodes["node-1"].get_secret_value()
    with pytest.raises(ServerError) as caught:
        programs.run([programs.program("pg_dump", 180000), "--schema=nothing_here"], uri, "node-1")
    assert "no matching schemas" in str(caught.value)
    assert uri.split(":")[2].split("@")[0] not in str(caught.value)
