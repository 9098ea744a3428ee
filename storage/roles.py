"""Roles: what the gateway and the workers may do on a node, brought up to date by whoever migrates.

`memlane_gateway` and `memlane_worker` are group roles with the rights of `sql/roles.sql` and no
others; who logs in with them is the operator's affair. The migrating role owns the schemas, and is
called memlane_migrator in the docs.
"""

from collections.abc import Sequence
from contextlib import suppress
from typing import TypeAlias

from psycopg import Connection, errors

from memlane.storage import queries

_SQL = queries.load("roles")

GATEWAY, WORKER = "memlane_gateway", "memlane_worker"

ROLES = (GATEWAY, WORKER)

_WATCHING = "pg_read_all_stats, pg_signal_backend"
"""What the sweep needs to see and end sessions that other roles have left stalled."""

Migrating: TypeAlias = Connection[tuple[object, ...]]


def create(connection: Migrating) -> list[str]:
    """Create the roles that are missing; the statements that somebody else has to run, because we may not."""
    missing = [role for role in ROLES if role not in _known(connection)]
    if missing and not _may_create(connection):
        return [*(f"CREATE ROLE {role} NOLOGIN" for role in missing), f"GRANT {_WATCHING} TO {WORKER}"]
    for role in missing:
        with suppress(errors.DuplicateObject, errors.UniqueViolation):  # another database of this server was faster
            connection.execute(_SQL["create"].render(role=role))
    return _watch(connection)


def _watch(connection: Migrating) -> list[str]:
    """Let the workers' sweep end the sessions of other roles, where we may grant that; else what to run for it."""
    lacking = connection.execute(_SQL["unwatched"].render(), {"role": WORKER}).fetchall()
    if not all(grantable for _, grantable in lacking):
        return [f"GRANT {_WATCHING} TO {WORKER}"]
    if lacking:
        connection.execute(_SQL["watch"].render(watching=_WATCHING, role=WORKER))
    return []


def grant(connection: Migrating, schema: str, kind: str, vectors: Sequence[str] = ()) -> None:
    """Give the roles that exist exactly their rights in a schema; a right that is no longer listed is taken back.

    Args:
        connection: of the schema's owner.
        schema: whose tables are granted.
        kind: `control` or `shard`.
        vectors: a shard's tables of vectors.
    """
    with connection.transaction():
        connection.execute(_SQL["close"].render(schema=schema))
        for role in _known(connection):
            connection.execute(_SQL["reset"].render(schema=schema, role=role))
            connection.execute(_SQL[f"{role}_{kind}"].render(schema=schema))
            for table in vectors:
                connection.execute(_SQL[f"{role}_vectors"].render(schema=schema, vectors=table))


def _known(connection: Migrating) -> list[str]:
    return [str(row[0]) for row in connection.execute(_SQL["known"].render(), {"roles": list(ROLES)})]


def _may_create(connection: Migrating) -> bool:
    return connection.execute(_SQL["may_create"].render()).fetchone() == (True,)
