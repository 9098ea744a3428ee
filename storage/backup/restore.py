"""Restoring a backup into empty nodes: as many as there were, fewer, or more.

Shards come first and control last, so that what broke off is never taken for a cluster.
"""

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from psycopg import Connection

from memlane.config.settings import Settings
from memlane.errors import MemlaneError, Misconfigured, ServerError
from memlane.storage import queries
from memlane.storage.backup import manifest, programs
from memlane.storage.backup.dump import Report
from memlane.storage.backup.manifest import Dumped, Manifest
from memlane.storage.cluster import schema_name
from memlane.storage.hashing import propose_node
from memlane.storage.migrator import check_extension, migrate
from memlane.storage.nodes import Row, unhurried_connection

_SQL = queries.load("backup")


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
        ServerError: it failed; what was restored so far was taken away again.
    """
    backup = manifest.read(folder)
    _check(settings, backup)
    nodes = {shard: propose_node(shard, list(settings.nodes)) for shard in range(backup.shard_count)}
    dumped = {d.schema: d for d in backup.schemas}
    try:
        epochs = _restore_shards(settings, folder, dumped, nodes, report)
        with unhurried_connection(settings, settings.control) as control:
            _load(settings, settings.control, control, folder, dumped["control"], report)
            for shard, node in nodes.items():
                control.execute(_SQL["place"].render(), {"shard": shard, "node": node, "epoch": epochs[shard]})
    except BaseException:
        _take_away(settings, ((node, schema_name(shard)) for shard, node in nodes.items()))
        _take_away(settings, [(settings.control, "control")])
        raise
    migrate(settings, post=True)
    return Restored(backup, nodes)


def _check(settings: Settings, backup: Manifest) -> None:
    """Refuse what cannot be, before anything is done."""
    if "shard_count" in settings.model_fields_set and settings.shard_count != backup.shard_count:
        raise Misconfigured(
            f"the backup has {backup.shard_count} shards, which is fixed for good; "
            f"{settings.shard_count} were asked for"
        )
    if not settings.nodes:
        raise Misconfigured('no Postgres node is set: MEMLANE_NODES=\'{"node-1": "postgresql://..."}\'')
    for node in settings.nodes:
        with unhurried_connection(settings, node) as connection:
            check_extension(connection, node)
            found = [str(name) for (name,) in connection.execute(_SQL["inhabited"].render()).fetchall()]
            if found:
                raise Misconfigured(
                    f"node {node} has data of memlane ({', '.join(found)}): restore into empty databases. If that data "
                    f"may go, drop it there first: {' '.join(f'DROP SCHEMA {name} CASCADE;' for name in found)}"
                )


def _restore_shards(
    settings: Settings, folder: Path, dumped: Mapping[str, Dumped], nodes: Mapping[int, str], report: Report
) -> dict[int, int]:
    """Restore all shards, the nodes side by side; their epochs."""

    def on_node(node: str) -> dict[int, int]:
        here = [shard for shard, name in nodes.items() if name == node]
        with unhurried_connection(settings, node) as connection:
            epochs = {}
            for shard in here:
                _load(settings, node, connection, folder, dumped[schema_name(shard)], report)
                epochs[shard] = _take_over(connection, schema_name(shard))
            connection.execute("ANALYZE")
            return epochs

    names = sorted(set(nodes.values()))
    with ThreadPoolExecutor(len(names)) as pool:
        return {shard: epoch for found in pool.map(on_node, names) for shard, epoch in found.items()}


def _take_over(connection: Connection[Row], schema: str) -> int:
    """Free a shard of those who worked on it where it was; its new epoch."""
    connection.execute(_SQL["settle_leases"].render(shard=schema))
    row = connection.execute(_SQL["move_on"].render(shard=schema)).fetchone()
    assert row is not None
    return int(row[0])


def _load(
    settings: Settings, node: str, connection: Connection[Row], folder: Path, dumped: Dumped, report: Report
) -> None:
    """Restore one schema in one transaction, and count its rows."""
    argv = [
        *(programs.program("pg_restore", connection.info.server_version), "--single-transaction", "--exit-on-error"),
        *("--no-owner", "--no-privileges", "--no-password", f"--dbname={connection.info.dbname}"),
        str(folder / dumped.file),
    ]
    programs.run(argv, settings.nodes[node].get_secret_value(), node)
    for table, count in dumped.rows.items():
        row = connection.execute(_SQL["count"].render(schema=dumped.schema, table=table)).fetchone()
        if row != (count,):
            raise ServerError(f"{dumped.schema}.{table} has {row[0] if row else 0} rows on node {node}, not {count}")
    report(dumped.schema)


def _take_away(settings: Settings, schemas: Iterable[tuple[str, str]]) -> None:
    for node, schema in schemas:
        try:
            with unhurried_connection(settings, node) as connection:
                connection.execute(_SQL["drop"].render(schema=schema))
        except MemlaneError:
            continue  # whoever restores next is told
