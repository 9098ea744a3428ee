"""Brings the schemas up to this version: numbered SQL files, forward only, each applied once.

What a file named `..._pre_...` does leaves an older version of the processes working; it is applied
before they are replaced. One named `..._post_...` is applied when none of them is left: when asked
for, or where the schema is new.

Control is migrated first, then every shard on its node, then each model's tables in every shard; with
each schema the rights of the gateway's and the workers' roles in it. A session lock per database
makes a second run, or a run from another process, wait and then find nothing to do.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.resources import files
from time import sleep

import structlog
from psycopg import Connection

from memlane.config.settings import Settings
from memlane.errors import Misconfigured
from memlane.storage import queries, roles
from memlane.storage.cluster import schema_name
from memlane.storage.connections import Row, check_nodes, unhurried_connection
from memlane.storage.hashing import HASH_VERSION, propose_node
from memlane.storage.models import Model, table_name

log = structlog.get_logger(__name__)

_CLUSTER = queries.load("cluster")
_MIGRATIONS = queries.load("migrations")
_MODELS = queries.load("models")

_LOCK = 1835887984
"""Key of the advisory lock that lets one process migrate at a time."""

_LOOK_S = 0.1
"""How often we look whether another process has done migrating."""

_LOCK_TIMEOUT_S = 5
"""How long a change of a table waits for those who use it."""

_PGVECTOR = (0, 8, 4)
"""Oldest pgvector that is safe: 0.8.3 and before could corrupt an index under concurrent vacuum (pgvector#988)."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One file: applied once in each schema that it is for."""

    name: str
    text: str

    @property
    def alone(self) -> bool:
        """Whether its statements have to stand outside a transaction; run again, they begin anew."""
        return " CONCURRENTLY " in self.text

    @property
    def post(self) -> bool:
        """Whether it has to wait until no process of an older version runs."""
        return "_post_" in self.name


def migrations(kind: str) -> list[Migration]:
    """The migrations of `control`, `shard` or `model`, in order."""
    folder = files("memlane.storage") / "migrations" / kind
    found = [Migration(f.name.removesuffix(".sql"), f.read_text()) for f in folder.iterdir() if f.name.endswith(".sql")]
    return sorted(found, key=lambda migration: migration.name)


@dataclass(frozen=True, slots=True)
class Migrated:
    """What a run came to.

    Attributes:
        applied: what was applied, as "schema: scope migration".
        waiting: what waits until no process of an older version runs.
        lacking: whether memories may lack the current model's vectors.
        advice: a line for each node where we may not bring the roles up to date: what a DBA has to run there.
    """

    applied: list[str]
    waiting: list[str]
    lacking: bool
    advice: list[str]


def migrate(settings: Settings, model: Model | None = None, *, post: bool = False) -> Migrated:
    """Bring every schema up to date; create the cluster if there is none.

    Args:
        settings: names the nodes and, for a new cluster, the number of shards.
        model: makes this the current model, with tables in every shard.
        post: no process of an older version runs any more.

    Raises:
        Misconfigured: the cluster has another shard count, a node's pgvector is too old, or its address unreadable.
        NodeDown: a node does not answer.
        Unavailable: a table was in use for too long; run again, it goes on where it was.
    """
    check_nodes(settings)
    done = Migrated([], [], False, [])
    with locked(settings, settings.control) as control:
        check_extension(control, settings.control)
        _apply(done, control, "control", "control", post)
        to_run = {settings.control: roles.create(control)}
        roles.grant(control, "control", "control")
        placed = _placed(control, settings)
        models, lacking = _register(control, model)
    for node in sorted(set(placed.values())):
        with locked(settings, node) as connection:
            check_extension(connection, node)
            to_run[node] = roles.create(connection)
            for shard in (number for number, name in placed.items() if name == node):
                _migrate_shard(done, connection, shard, len(placed), models, post)
    advice = [_advice(node, wanted) for node, wanted in to_run.items() if wanted]
    return replace(done, lacking=lacking, advice=advice)


def _advice(node: str, wanted: list[str]) -> str:
    return f"a DBA has to run on node {node}, and then `memlane migrate` again: {'; '.join(wanted)};"


@contextmanager
def locked(settings: Settings, node: str) -> Iterator[Connection[Row]]:
    """A connection to a node on which nobody else migrates or restores meanwhile."""
    with unhurried_connection(settings, node) as connection:
        # Whoever waits inside a statement would be waited for by an index that is built concurrently.
        while connection.execute("SELECT pg_try_advisory_lock(%s)", (_LOCK,)).fetchone() != (True,):
            sleep(_LOOK_S)
        # Whoever waits for a table's lock holds up all who come after him.
        connection.execute(f"SET lock_timeout = '{_LOCK_TIMEOUT_S}s'".encode())
        yield connection


def check_extension(connection: Connection[Row], node: str) -> None:
    """Make sure that a node has pgvector.

    Raises:
        Misconfigured: it has an older one than is safe.
    """
    connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
    row = connection.execute("SELECT extversion FROM pg_extension WHERE extname = 'vector'").fetchone()
    version = str(row[0]) if row else "0"
    if tuple(int(part) for part in version.split(".")) < _PGVECTOR:
        wanted = ".".join(map(str, _PGVECTOR))
        raise Misconfigured(f"node {node} has pgvector {version}; {wanted} or later is needed")


def _apply(done: Migrated, connection: Connection[Row], schema: str, kind: str, post: bool, **places: str) -> None:
    """Apply what is missing in a schema, in order; each file and its record in one transaction."""
    connection.execute(_MIGRATIONS["prepare_schema"].render(schema=schema))
    connection.execute(_MIGRATIONS["prepare_record"].render(schema=schema))
    scope = places.get("vectors", kind)
    before = {row[0] for row in connection.execute(_MIGRATIONS["done"].render(schema=schema), {"scope": scope})}
    missing = [migration for migration in migrations(kind) if migration.name not in before]
    for migration in missing:
        line = f"{schema}: {scope} {migration.name}"
        if migration.post and before and not post:
            done.waiting.append(line)
            break  # what comes after it belongs to the version after
        text = queries.Query("", "", migration.text).render(shard=schema, **places)
        record = _MIGRATIONS["record"].render(schema=schema), {"scope": scope, "name": migration.name}
        if migration.alone:
            for statement in text.split(b";\n"):
                if statement.strip():
                    connection.execute(statement)
            connection.execute(*record)
        else:
            with connection.transaction():
                connection.execute(text)
                connection.execute(*record)
        done.applied.append(line)
        log.info("migrated", what=line)


def _placed(control: Connection[Row], settings: Settings) -> dict[int, str]:
    """The map; made by rendezvous hashing when the cluster is new."""
    with control.transaction():
        created = control.execute(_CLUSTER["found"].render()).fetchone()
        if created is None:
            new = {"shard_count": settings.shard_count, "hash_version": HASH_VERSION}
            control.execute(_CLUSTER["create"].render(), new)
            for shard in range(settings.shard_count):
                node = propose_node(shard, list(settings.nodes))
                control.execute(_CLUSTER["place"].render(), {"shard": shard, "node": node})
        elif "shard_count" in settings.model_fields_set and created[0] != settings.shard_count:
            raise Misconfigured(
                f"this cluster was created with {created[0]} shards, which is fixed for good; "
                f"{settings.shard_count} were asked for"
            )
    return {int(str(row[0])): str(row[1]) for row in control.execute(_CLUSTER["shards"].render())}


def _register(control: Connection[Row], model: Model | None) -> tuple[list[Model], bool]:
    """Make a model the current one; all models there are, and whether memories may lack its vectors."""
    lacking = False
    if model is not None:
        with control.transaction():
            known = {str(row[0]): row[1] for row in control.execute(_MODELS["all"].render())}
            if known.get(model.name, model.dims) != model.dims:
                raise Misconfigured(f"model {model.name} has {known[model.name]} dimensions here, not {model.dims}")
            control.execute(_MODELS["retire"].render(), {"model": model.name})
            params = {"model": model.name, "dims": model.dims, "first": not known}
            made = control.execute(_MODELS["make_current"].render(), params)
            lacking = made.fetchone() != (True,)
    return [Model(str(row[0]), int(str(row[1]))) for row in control.execute(_MODELS["all"].render())], lacking


def _migrate_shard(
    done: Migrated, connection: Connection[Row], shard: int, shard_count: int, models: list[Model], post: bool
) -> None:
    schema = schema_name(shard)
    _apply(done, connection, schema, "shard", post, number=str(shard))
    enrol = {"shard": shard, "shard_count": shard_count, "hash_version": HASH_VERSION}
    connection.execute(_CLUSTER["enroll"].render(shard=schema), enrol)
    for model in models:
        places = {"vectors": table_name(model.name), "dims": str(model.dims)}
        _apply(done, connection, schema, "model", post, **places)
    roles.grant(connection, schema, "shard", [table_name(model.name) for model in models])
