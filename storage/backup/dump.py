"""Taking a backup, while everything goes on: each node is seen at one moment, each shard whole.

An agent's memories are all in one shard, so they are seen at one moment too. Control comes last: it
knows every tenant and key that the shards had. A shard that moves meanwhile is noticed by its epoch.
"""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from psycopg import Connection, IsolationLevel
from psycopg.errors import UndefinedTable

from memlane import __version__
from memlane.config.settings import Settings
from memlane.errors import Misconfigured, NotMigrated, ShardMoved
from memlane.storage import queries
from memlane.storage.backup import manifest, programs
from memlane.storage.backup.manifest import FORMAT, Dumped, Manifest
from memlane.storage.cluster import schema_name
from memlane.storage.connections import Row, check_nodes, unhurried_connection
from memlane.storage.models import Model

_SQL = queries.load("backup")
_CLUSTER = queries.load("cluster")
_MODELS = queries.load("models")

Report = Callable[[str], None]
"""Told of each schema that is done."""

Placed = Mapping[int, tuple[str, int]]
"""Node and epoch of each shard."""


@dataclass(frozen=True, slots=True)
class _View:
    """A node at one moment."""

    name: str
    uri: str
    connection: Connection[Row]
    snapshot: str


def backup(settings: Settings, folder: Path, report: Report) -> Manifest:
    """Write a backup of the whole cluster into an empty folder, which only its owner may read.

    Raises:
        Misconfigured: the folder is not empty or cannot be written, or pg_dump is missing or too old.
        NodeDown: a node does not answer.
        ShardMoved: a shard moved meanwhile; nothing is wrong but this backup, which has no manifest.
    """
    check_nodes(settings)
    _prepare(folder)
    with _view(settings, settings.control) as view:
        placed = _map(view)
    by_node: dict[str, list[int]] = {}
    for shard, (node, _) in placed.items():
        by_node.setdefault(node, []).append(shard)

    def dump_node(node: str) -> list[Dumped]:
        with _view(settings, node) as view:
            return [_dump_shard(view, folder, shard, placed[shard][1], report) for shard in by_node[node]]

    with ThreadPoolExecutor(len(by_node)) as pool:
        shards = [dumped for found in pool.map(dump_node, sorted(by_node)) for dumped in found]
    with _view(settings, settings.control) as view:
        if _map(view) != placed:
            raise ShardMoved("a shard moved while the backup was made: make it again, into another folder")
        control = _dump(view, folder, "control", 0, report)
        made = _describe(view, len(placed), (*sorted(shards, key=lambda d: d.schema), control))
    manifest.write(folder, made)
    return made


def _prepare(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise Misconfigured(f"{folder} is not empty: a backup goes into a folder of its own")
        folder.chmod(0o700)
    except OSError as error:
        raise Misconfigured(f"{folder} cannot be made: {error.strerror}") from None


@contextmanager
def _view(settings: Settings, node: str) -> Iterator[_View]:
    """A node at one moment, which pg_dump sees as well."""
    with unhurried_connection(settings, node) as connection:
        connection.isolation_level = IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        with connection.transaction():
            row = connection.execute(_SQL["snapshot"].render()).fetchone()
            assert row is not None
            yield _View(node, settings.nodes[node].get_secret_value(), connection, row[0])


def _map(view: _View) -> Placed:
    try:
        rows = view.connection.execute(_CLUSTER["shards"].render()).fetchall()
    except UndefinedTable:
        rows = []
    if not rows:
        raise NotMigrated(f"there is no cluster on node {view.name}: nothing to back up")
    return {shard: (node, epoch) for shard, node, epoch in rows}


def _dump_shard(view: _View, folder: Path, shard: int, epoch: int, report: Report) -> Dumped:
    schema = schema_name(shard)
    found = view.connection.execute(_SQL["epoch"].render(shard=schema)).fetchone()
    if found != (epoch,):
        raise ShardMoved(f"shard {shard} is moving: make the backup again, into another folder")
    return _dump(view, folder, schema, epoch, report)


def _dump(view: _View, folder: Path, schema: str, epoch: int, report: Report) -> Dumped:
    """Dump one schema as the view sees it."""
    connection = view.connection
    tables = [name for (name,) in connection.execute(_SQL["tables"].render(), {"schema": schema}).fetchall()]
    counts = {name: connection.execute(_SQL["count"].render(schema=schema, table=name)).fetchone() for name in tables}
    path = folder / f"{schema}.dump"
    path.touch(mode=0o600)
    argv = [
        *(programs.program("pg_dump", connection.info.server_version), "--format=custom", "--no-password"),
        *("--no-owner", "--no-privileges", f"--snapshot={view.snapshot}", f"--schema={schema}", f"--file={path}"),
    ]
    programs.run(argv, view.uri, view.name)
    report(schema)
    applied = connection.execute(_SQL["applied"].render(schema=schema)).fetchall()
    return Dumped(
        schema=schema,
        file=path.name,
        bytes=path.stat().st_size,
        sha256=manifest.sum_of(path),
        rows={name: row[0] for name, row in counts.items() if row is not None},
        epoch=epoch,
        migrations=tuple((scope, name) for scope, name in applied),
    )


def _describe(view: _View, shard_count: int, schemas: tuple[Dumped, ...]) -> Manifest:
    models = view.connection.execute(_MODELS["all"].render()).fetchall()
    current = view.connection.execute(_SQL["current_model"].render()).fetchone()
    return Manifest(
        format=FORMAT,
        version=__version__,
        created_at=datetime.now(UTC).replace(microsecond=0),
        shard_count=shard_count,
        models=tuple(Model(name, dims) for name, dims in models),
        current_model=current[0] if current else None,
        schemas=schemas,
    )
