"""Upkeep of one shard: statistics, and an index of its own for an agent that outgrew exact search."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass

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
    "promotions",
    "canaries",
)
"""The tables whose statistics matter, beside those of vectors."""


_BRIEFLY = "SET lock_timeout = '5s'"

_NODE = -1
"""Stands for the whole node among the numbers of shards that are locked."""

_LONGEST_S = 1800.0
"""How long one statement is waited for: an index over a million vectors takes about seven minutes on 2 cores."""


@dataclass(frozen=True, slots=True)
class Promotion:
    """An agent's index.

    Attributes:
        upto: the number of the last vector in it.
        index_name: which one.
        vectors: how many were in it when it was built; missing where nobody counted.
        m: neighbours of a vector in the graph.
        ef_construction: how many were looked at for them.
        there: whether it exists; somebody may have dropped it by hand.
    """

    upto: int
    index_name: str
    vectors: int | None = None
    m: int = 16
    ef_construction: int = 64
    there: bool = True


@dataclass(frozen=True, slots=True)
class Build:
    """How an index is built.

    Attributes:
        agent: whose vectors are in it.
        upto: up to this number.
        m: neighbours of a vector in the graph.
        ef_construction: how many are looked at for them.
        memory_mb: what the graph may take while it is built, in MiB; what does not fit is added on disk.
    """

    agent: int
    upto: int
    m: int
    ef_construction: int
    memory_mb: int


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


def build_index(shard: Shard, table: str, build: Build, beside: str | None = None) -> str:
    """Index an agent's vectors up to a number, beside one that serves meanwhile; the index's name. Writers go on.

    It takes one processor: others have the rest.
    """
    agent, upto = str(build.agent), str(build.upto)
    name = f"{table}_{agent}_{upto}"[-63:]
    if name == beside:  # of the same vectors less is left, or the graph is to be another
        name = f"{name}_again"[-63:]
    shape = {"m": str(build.m), "ef_construction": str(build.ef_construction)}
    with _unhurried(shard) as connection:
        connection.execute(shard.render(_SQL["drop_index"], index=name))
        connection.execute(_SQL["build_in_memory"].render(), {"memory": f"{build.memory_mb}MB"})
        query = shard.render(_SQL["build_index"], index=name, vectors=table, agent=agent, upto=upto, **shape)
        connection.execute(query)
    return name


def promote(shard: Shard, agent: int, model: str, made: Promotion) -> None:
    """From now on recall uses this index."""
    params = {"agent": agent, "model": model, **asdict(made)}
    shard.run(_SQL["promote"], params)


def drop_index(shard: Shard, name: str) -> bool:
    """Drop an index that serves nobody any more; False if somebody has locked it: it is found among those left behind.

    Those who look into it just now are waited for.
    """
    try:
        with _unhurried(shard) as connection:
            connection.execute(_BRIEFLY)
            connection.execute(shard.render(_SQL["drop_index"], index=name))
    except Unavailable as error:
        log.warning("index.not_dropped", shard=shard.number, index=name, why=str(error))
        return False
    return True


def drop_left_indexes(shard: Shard) -> list[str]:
    """Drop indexes that a build left behind, unfinished or before they served; they cost writes and serve nobody.

    Call it while you are `alone`. One that somebody else is building, by hand, is left: also one that is begun at this
    very moment, since its lock is waited for only briefly.
    """
    left = [name for (name,) in shard.run(_SQL["left_indexes"], quoted_shard=f"'{shard.schema}'")]
    return [name for name in left if drop_index(shard, name)]


@contextmanager
def alone(shard: Shard) -> Iterator[bool]:
    """Whether nobody else builds indexes on this shard's node, and so nobody will until the block ends.

    The lock of the shard itself is taken as well: older versions know only that one.
    """
    with shard.node.connection() as connection, ExitStack() as held:
        yield all(_lock(connection, key, held) for key in (_NODE, shard.number))


def _lock(connection: Connection[Row], key: int, held: ExitStack) -> bool:
    """Take a lock of the session, if it is free, to be let go with the stack."""
    row = connection.execute("SELECT pg_try_advisory_lock(1835887985, %s)", (key,)).fetchone()
    mine = bool(row and row[0])
    if mine:
        held.callback(_unlock, connection, key)
    return mine


def _unlock(connection: Connection[Row], key: int) -> None:
    if not connection.closed:
        connection.execute("SELECT pg_advisory_unlock(1835887985, %s)", (key,))


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
