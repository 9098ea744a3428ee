"""Plans: what Postgres does for a statement, asked for in the session in which it runs, and so with its settings.

A statement is prepared and then explained as it is executed: only that shows the plan that the processes get, which
is made once for all values (`plan_cache_mode`).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from psycopg import Connection, Error, abc
from psycopg.adapt import PyFormat, Transformer

from memlane.storage.connections import Row
from memlane.storage.halfvec import HalfVectors
from memlane.storage.nodes import Params

_PLACE = re.compile(rb"%\((\w+)\)s|%%")

_UNSEEN = re.compile(rb"\bcontrol\.(\w+)\(|\b\w+\.(fence)\(")
"""Our functions that are not written into the statement: their own statements are in no plan of it."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A statement with what Postgres did for it.

    Attributes:
        statement: its text.
        plan: the lines of EXPLAIN (ANALYZE, BUFFERS); why there is none where it cannot be asked for.
        inside: functions whose own statements EXPLAIN does not show; their time and buffers are in the plan.
    """

    statement: bytes
    plan: str
    inside: tuple[str, ...] = ()


def explain(connection: Connection[Row], statement: bytes, params: Params) -> Plan:
    """The plan of a statement, which is executed for it and undone."""
    inside = tuple(dict.fromkeys(b"".join(found).decode() for found in _UNSEEN.findall(statement)))
    try:
        with connection.transaction(force_rollback=True):
            return Plan(statement, "\n".join(_lines(connection, statement, params)), inside)
    except Error as error:
        return Plan(statement, f"EXPLAIN does not show this one (SQLSTATE {error.sqlstate})", inside)


def _lines(connection: Connection[Row], statement: bytes, params: Params) -> list[str]:
    names = list(dict.fromkeys(name.decode() for name in _PLACE.findall(statement) if name))
    numbered = _PLACE.sub(lambda m: b"$%d" % (names.index(m[1].decode()) + 1) if m[1] else b"%", statement)
    values = [params[name] for name in names]
    transformer = Transformer(connection)
    types = ", ".join(_types(connection, transformer, values))
    given = b", ".join(_literal(transformer, value) for value in values)
    connection.execute(b"PREPARE memlane_explained" + (f" ({types})".encode() if names else b"") + b" AS " + numbered)
    try:
        asked = b"EXPLAIN (ANALYZE, BUFFERS) EXECUTE memlane_explained" + (b"(" + given + b")" if names else b"")
        return [line for (line,) in connection.execute(asked.replace(b"%", b"%%"), ()).fetchall()]
    finally:
        connection.execute("DEALLOCATE memlane_explained")


def _types(connection: Connection[Row], transformer: abc.Transformer, values: Sequence[Any]) -> list[str]:
    """The types that the driver would send the values as."""
    oids = [transformer.get_dumper(value, PyFormat.AUTO).oid if value is not None else 0 for value in values]
    asked = "SELECT CASE oid WHEN 0 THEN 'unknown' ELSE oid::regtype::text END FROM unnest(%s::oid[]) AS t(oid)"
    return [name for (name,) in connection.execute(asked, (oids,)).fetchall()]


def _literal(transformer: abc.Transformer, value: Any) -> bytes:
    """A value as it is written in SQL."""
    if isinstance(value, HalfVectors):
        rows = ",".join(f'"[{",".join(str(number) for number in row.tolist())}]"' for row in value.rows)
        return f"'{{{rows}}}'".encode()
    return bytes(transformer.as_literal(value))
