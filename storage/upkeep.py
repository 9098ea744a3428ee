"""Upkeep of one shard: statistics, and an index of its own for an agent that outgrew exact search."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import structlog
from psycopg import Connection

from memlane.errors import Unavailable
from memlane.storage import queries
from memlane.storage.cluster import Shard
from memlane.storage.connections import UNHURRIED, Row

log = structlog.get_logger(__name__)

_SQL = queries.load("upkeep")

TABLES = (
    "agents",
    "ids",
    "jobs",
    "leases",
    "memories",
    "versions",
    "memory_stats",
    "embedding_cache",
    "ledger",
    "queries",
    "patterns",
)
"""The tables whose statistics matter, beside those of vectors."""


_BRIEFLY = "SET lock_timeout = '5s'"

_LONGEST_S = 1800.0
"""How long one statement is waited for: an index over a million vectors takes about seven minutes on 2 cores."""


@dataclass(frozen=True, slots=True)
class Promotion:
    """An agent's index: which one, the number of the last vector in it, and how many were in it when it was built."""

    upto: int
    index_name: str
    vectors: int | None = None


def analyze(shard: Shard, tables: list[str]) -> None:
    """Bring the planner's statistics up to date."""
    with _unhurried(shard) as connection:
        for table in (*TABLES, *tables):
            connection.execute(shard.render(_SQL["analyze"], table=table))


def promotion(shard: Shard, agent: int, model: str) -> Promotion | None:
    """An agent's index, if it has one."""
    rows = shard.run(_SQL["promotion"], {"agent": agent, "model": model})
    return Promotion(*rows[0]) if rows else None


def vectors_of(shard: Shard, agent: int, table: str) -> tuple[int, int]:
    """How many vectors an agent has, and the number of the newest."""
    count, last = shard.run(_SQL["last_vector"], {"agent": agent}, vectors=table)[0]
    return int(count), int(last)


def tail(shard: Shard, agent: int, table: str, upto: int) -> int:
    """How many vectors of an agent are newer than its index."""
    return int(shard.run(_SQL["tail"], {"agent": agent, "upto": upto}, vectors=table)[0][0])


def build_index(shard: Shard, agent: int, table: str, upto: int, beside: str | None = None) -> str:
    """Index an agent's vectors up to a number, beside one that serves meanwhile; the index's name. Writers go on."""
    name = f"{table}_{agent}_{upto}"[-63:]
    if name == beside:  # only less is left of the same vectors
        name = f"{name}_again"[-63:]
    with _unhurried(shard) as connection:
        connection.execute(shard.render(_SQL["drop_index"], index=name))
        query = shard.render(_SQL["build_index"], index=name, vectors=table, agent=str(agent), upto=str(upto))
        connection.execute(query)
    return name


def promote(shard: Shard, agent: int, model: str, made: Promotion) -> None:
    """From now on recall uses this index."""
    names = {"index_name": made.index_name, "vectors": made.vectors}
    params = {"agent": agent, "model": model, "upto": made.upto, **names}
    shard.run(_SQL["promote"], params)


def drop_index(shard: Shard, name: str) -> None:
    """Drop an index that another has replaced."""
    with _unhurried(shard) as connection:
        connection.execute(shard.render(_SQL["drop_index"], index=name))


def drop_broken_indexes(shard: Shard) -> list[str]:
    """Drop indexes that a build left behind unfinished; they cost writes and serve nobody.

    Call it while you are `alone`. One that somebody else is building, by hand, is left: also one that is begun at this
    very moment, since its lock is waited for only briefly.
    """
    broken = [name for (name,) in shard.run(_SQL["broken_indexes"], quoted_shard=f"'{shard.schema}'")]
    dropped = []
    for name in broken:
        try:
            with _unhurried(shard) as connection:
                connection.execute(_BRIEFLY)
                connection.execute(shard.render(_SQL["drop_index"], index=name))
            dropped.append(name)
        except Unavailable as error:
            log.warning("index.not_dropped", shard=shard.number, index=name, why=str(error))
    return dropped


@contextmanager
def alone(shard: Shard) -> Iterator[bool]:
    """Whether nobody else builds indexes in this shard, and so nobody will until the block ends."""
    with shard.node.connection() as connection:
        row = connection.execute("SELECT pg_try_advisory_lock(1835887985, %s)", (shard.number,)).fetchone()
        mine = bool(row and row[0])
        try:
            yield mine
        finally:
            if mine and not connection.closed:
                connection.execute("SELECT pg_advisory_unlock(1835887985, %s)", (shard.number,))


@contextmanager
def _unhurried(shard: Shard) -> Iterator[Connection[Row]]:
    """A connection whose statements may take long, and that the sweep leaves alone."""
    with shard.node.connection() as connection:
        connection.execute("SELECT set_config('application_name', %s, false)", (UNHURRIED,))
        connection.execute("SET statement_timeout = 0")
        connection.execute("SET lock_timeout = 0")
        usual_s, connection.patience_s = connection.patience_s, _LONGEST_S
        try:
            yield connection
        finally:
            connection.patience_s = usual_s
            if not connection.closed:
                connection.execute("RESET ALL")
