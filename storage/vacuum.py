"""Vacuum, as a node does it: what its tables and indexes need, and the doing; what came of it is kept in control."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import psycopg

from memlane.contract.upkeep import Action, Ended, Vacuumed
from memlane.storage import queries
from memlane.storage.cluster import Shard
from memlane.storage.connections import UNHURRIED, PatientConnection, Row
from memlane.storage.nodes import Node

_SQL = queries.load("vacuum")

_LOCK_S = 10.0
"""How long a table is waited for that somebody else has locked: the others must not wait as long."""

_MEASURING_S = 0.5

_GRACE_S = 5.0
"""How much longer than a statement may take its answer is waited for."""

_SESSION = {
    "application_name": UNHURRIED,
    "lock_timeout": f"{_LOCK_S:g}s",
    "plan_cache_mode": "auto",
    "enable_seqscan": "on",
    # As autovacuum does, it rests between pages: those who work need the disk as well.
    "vacuum_cost_delay": "1ms",
    "vacuum_cost_limit": "2000",
}

Relation: TypeAlias = tuple[str, int, str]
"""A node, a shard (control: -1) and the name of a table or an index."""


@dataclass(frozen=True, slots=True)
class Table:
    """How worn a table is.

    Attributes:
        schema: a shard's, or control's.
        name: its own.
        rows: how many it has.
        dead: rows that were deleted or replaced, whose room is not free yet.
        inserted: rows that came since it was last vacuumed.
        changed: rows that came, went or changed since it was last analyzed.
    """

    schema: str
    name: str
    rows: int
    dead: int
    inserted: int
    changed: int


@dataclass(frozen=True, slots=True)
class Index:
    """An agent's index of vectors up to a number: how many it was built of, and how many are left, if that is known."""

    agent: int
    model: str
    upto: int
    name: str
    table: str
    built: int | None
    living: int | None = None


@dataclass(frozen=True, slots=True)
class Size:
    """Dead rows, and bytes with all indexes."""

    dead: int
    bytes: int


@contextmanager
def alone(node: Node) -> Iterator[PatientConnection | None]:
    """A session for long statements, if nobody else vacuums on this node; else None. The sweep leaves it alone."""
    with node.connection() as connection:
        ((mine,),) = connection.execute(_SQL["alone"].render()).fetchall()
        if not mine:
            yield None
            return
        usual_s = connection.patience_s
        try:
            for name, value in _SESSION.items():
                connection.execute("SELECT set_config(%s, %s, false)", (name, value))
            yield connection
        finally:
            connection.patience_s = usual_s
            if not connection.closed:
                connection.execute(_SQL["leave"].render())
                connection.execute("RESET ALL")


def worn(connection: PatientConnection, schemas: Sequence[str]) -> list[Table]:
    """The tables of these schemas, and how worn they are."""
    rows = connection.execute(_SQL["worn"].render(), {"schemas": list(schemas)}).fetchall()
    return [Table(*row) for row in rows]


def indexes(connection: PatientConnection, shard: Shard) -> list[Index]:
    """The indexes of vectors in a shard; what is left of them takes as long to count as it is much: see `living`."""
    return [Index(*row) for row in connection.execute(shard.render(_SQL["promoted"])).fetchall()]


def living(connection: PatientConnection, shard: Shard, index: Index, within_s: float) -> int | None:
    """How many of an index's vectors are left; None if that could not be counted within so many seconds."""
    found: list[Row] = []
    query = shard.render(_SQL["living"], vectors=index.table)
    params = {"agent": index.agent, "upto": index.upto}
    _ended(connection, within_s, lambda: found.extend(connection.execute(query, params).fetchall()))
    return int(found[0][0]) if found else None


def count_anew(connection: PatientConnection, shard: Shard, index: Index) -> None:
    """From now on an index is measured by what is left of it."""
    params = {"agent": index.agent, "model": index.model, "index": index.name, "vectors": index.living}
    connection.execute(shard.render(_SQL["count_anew"]), params)


def size(connection: PatientConnection, schema: str, relation: str) -> Size:
    """How large a table or an index is; nothing where it is locked, since measuring it would wait."""
    found: list[Row] = []

    def ask() -> None:
        found.extend(connection.execute(_SQL["size"].render(), {"relation": f"{schema}.{relation}"}).fetchall())

    _ended(connection, _MEASURING_S, ask)
    return Size(*found[0]) if found else Size(0, 0)


def work(connection: PatientConnection, action: Action, schema: str, relation: str, within_s: float) -> Ended:
    """Vacuum, analyze or reindex, for so many seconds at most; how it ended.

    Raises:
        psycopg.Error: the server is gone.
    """
    statement = _SQL[action.value].render(schema=schema, table=relation, index=relation)
    # Building an index waits for those who began before, a backup as well, when most of the work is done.
    lock_s = within_s if action is Action.REINDEX else _LOCK_S
    connection.execute("SELECT set_config('lock_timeout', %s, false)", (f"{max(1, int(lock_s * 1000))}",))
    return _ended(connection, within_s, lambda: connection.execute(statement))


def _ended(connection: PatientConnection, within_s: float, run: Callable[[], object]) -> Ended:
    timeout_ms = max(1, int(within_s * 1000))
    connection.patience_s = within_s + _GRACE_S
    connection.execute("SELECT set_config('statement_timeout', %s, false)", (str(timeout_ms),))
    try:
        run()
    except (psycopg.errors.QueryCanceled, psycopg.errors.LockNotAvailable):
        return Ended.STOPPED
    except psycopg.Error:
        if connection.closed:
            raise
        return Ended.FAILED
    finally:
        if not connection.closed:
            connection.execute("SET statement_timeout = '60s'")
    return Ended.DONE


def note(control: Node, done: Vacuumed) -> None:
    """Keep what was done."""
    params = {
        "node": done.node,
        "shard": done.shard,
        "relation": done.relation,
        "action": done.action.value,
        "why": done.why,
        "outcome": done.outcome.value,
        "ms": done.ms,
        "dead_before": done.dead_before,
        "dead_after": done.dead_after,
        "bytes_before": done.bytes_before,
        "bytes_after": done.bytes_after,
    }
    control.run(_SQL["note"].render(), params)


def stops(control: Node) -> Mapping[Relation, int]:
    """How often work on a relation was stopped within a day, since it was last done."""
    return {(node, shard, name): count for node, shard, name, count in control.run(_SQL["stops"].render())}


def done(control: Node, limit: int, shard: int | None = None, relation: str | None = None) -> list[Vacuumed]:
    """What was done last, the latest first."""
    rows = control.run(_SQL["done"].render(), {"limit": limit, "shard": shard, "relation": relation})
    return [_vacuumed(*row) for row in rows]


def _vacuumed(node: str, relation: str, action: str, why: str, outcome: str, *rest: Any) -> Vacuumed:
    return Vacuumed(node, relation, Action(action), why, Ended(outcome), *rest)
