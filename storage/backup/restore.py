"""Restoring a backup into empty nodes: as many as there were, fewer, or more.

Shards come first and control last, so that what broke off is never taken for a cluster.
"""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import psycopg
from psycopg import Connection

from memlane.config.settings import Settings
from memlane.errors import Misconfigured, ServerError
from memlane.storage import queries
from memlane.storage.backup import manifest, programs
from memlane.storage.backup.dump import Report
from memlane.storage.backup.manifest import Dumped, Manifest
from memlane.storage.cluster import schema_name
from memlane.storage.connections import Row, check_nodes
from memlane.storage.hashing import propose_node
from memlane.storage.migrator import check_extension, locked, migrate

_SQL = queries.load("backup")

Connections: TypeAlias = Mapping[str, Connection[Row]]


@dataclass(frozen=True, slots=True)
class Restored:
    """What came of it: the backup, and the node of each shard."""

    manifest: Manifest
    nodes: Mapping[int, str]


def restore(settings: Settings, folder: Path, report: Report) -> Restored:
    """Restore a backup into the nodes of the settings, and bring it up to this version.

    Args:
        settings: their nodes have to be empty of memlane's schemas.
        folder: the backup.
        report: told of each schema that is done.

    Raises:
        Misconfigured: the backup is not whole or of a later version, a node has data, or the settings ask for
            another number of shards; nothing was done.
        ServerError: it failed; what was restored so far was taken away again. What fails after that, while the schemas
            are brought up to this version, leaves the data, and `memlane migrate` finishes it.
    """
    check_nodes(settings)
    _ = settings.control  # which says so when there is no node at all
    backup = manifest.read(folder)
    nodes = {shard: propose_node(shard, list(settings.nodes)) for shard in range(backup.shard_count)}
    made: list[tuple[str, str]] = []
    with ExitStack() as stack:
        connections = {node: stack.enter_context(locked(settings, node)) for node in sorted(settings.nodes)}
        _check(settings, backup, connections)
        try:
            _restore_all(settings, folder, backup, Target(connections, nodes, made, report))
        except BaseException:
            for node, schema in made:
                with suppress(psycopg.Error):  # whoever restores next is told what is left
                    connections[node].execute(_SQL["drop"].render(schema=schema))
            raise
    migrate(settings, post=True)
    return Restored(backup, nodes)


@dataclass(frozen=True, slots=True)
class Target:
    """Where a backup is restored to.

    Attributes:
        connections: to each node, on which nobody else migrates or restores.
        nodes: the node of each shard.
        made: node and schema of what was restored so far.
        report: told of each schema.
    """

    connections: Connections
    nodes: Mapping[int, str]
    made: list[tuple[str, str]]
    report: Report


def _restore_all(settings: Settings, folder: Path, backup: Manifest, target: Target) -> None:
    """All shards, the nodes side by side, and then control with the new map."""
    dumped = {d.schema: d for d in backup.schemas}

    def on_node(node: str) -> dict[int, int]:
        epochs = {}
        for shard in (number for number, name in target.nodes.items() if name == node):
            _load(settings, node, folder, dumped[schema_name(shard)], target)
            epochs[shard] = _take_over(target.connections[node], schema_name(shard))
        target.connections[node].execute("ANALYZE")
        return epochs

    names = sorted(set(target.nodes.values()))
    with ThreadPoolExecutor(len(names)) as pool:
        epochs = {shard: epoch for found in pool.map(on_node, names) for shard, epoch in found.items()}
    _load(settings, settings.control, folder, dumped["control"], target)
    for shard, node in target.nodes.items():
        params = {"shard": shard, "node": node, "epoch": epochs[shard]}
        target.connections[settings.control].execute(_SQL["move"].render(), params)


def check_shards(settings: Settings, backup: Manifest) -> None:
    """Refuse settings that ask for another number of shards.

    Raises:
        Misconfigured: they do.
    """
    if "shard_count" in settings.model_fields_set and settings.shard_count != backup.shard_count:
        raise Misconfigured(
            f"the backup has {backup.shard_count} shards, which is fixed for good; "
            f"{settings.shard_count} were asked for"
        )


def _check(settings: Settings, backup: Manifest, connections: Connections) -> None:
    """Refuse what cannot be, before anything is done."""
    check_shards(settings, backup)
    for node, connection in connections.items():
        check_extension(connection, node)
        found = [str(name) for (name,) in connection.execute(_SQL["inhabited"].render()).fetchall()]
        if found:
            raise Misconfigured(
                f"node {node} has data of memlane ({', '.join(found)}): restore into empty databases. If that data "
                f"may go, drop it there first: {' '.join(f'DROP SCHEMA {name} CASCADE;' for name in found)}"
            )


def _take_over(connection: Connection[Row], schema: str) -> int:
    """Free a shard of those who worked on it where it was; its new epoch."""
    connection.execute(_SQL["settle_leases"].render(shard=schema))
    row = connection.execute(_SQL["move_on"].render(shard=schema)).fetchone()
    assert row is not None
    return int(row[0])


def _load(settings: Settings, node: str, folder: Path, dumped: Dumped, target: Target) -> None:
    """Restore one schema in one transaction, and count its rows."""
    connection = target.connections[node]
    argv = [
        *(programs.program("pg_restore", connection.info.server_version), "--single-transaction", "--exit-on-error"),
        *("--no-owner", "--no-privileges", "--no-password", f"--dbname={connection.info.dbname}"),
        str(folder / dumped.file),
    ]
    programs.run(argv, settings.nodes[node].get_secret_value(), node)
    target.made.append((node, dumped.schema))
    for table, count in dumped.rows.items():
        row = connection.execute(_SQL["count"].render(schema=dumped.schema, table=table)).fetchone()
        if row != (count,):
            raise ServerError(f"{dumped.schema}.{table} has {row[0] if row else 0} rows on node {node}, not {count}")
    target.report(dumped.schema)
