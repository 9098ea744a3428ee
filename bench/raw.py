"""Raw limits: what the parts can do without each other, on the same servers in the same run.

Postgres with COPY into the same tables, our SQL on one connection, Celery with a task that does nothing, and embedders.
"""

from contextlib import closing
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from time import perf_counter

import psycopg
from psycopg import sql

from memlane.bench import embedding, nothing
from memlane.bench.bare import Bare, lane_of
from memlane.bench.cpu import since
from memlane.bench.embedding import Embedders
from memlane.bench.figures import Amount, Rate
from memlane.bench.output import Progress
from memlane.bench.statements import BATCH, Statements
from memlane.bench.structured import normal
from memlane.bench.texts import fresh_texts
from memlane.config.settings import Settings
from memlane.contract import MemoryItem
from memlane.storage.cluster import Shard
from memlane.storage.hashing import shard_of
from memlane.tasks.lane import Lane

_AGENTS = 100
_TENANT = "bench"


@dataclass(frozen=True, slots=True)
class Raw:
    """The limits.

    Attributes:
        copy: rows by COPY into the tables of identities, memories and vectors, with their indexes.
        sql: memories by the statements of accept, claim and finish on one connection, vectors given.
        tasks: empty Celery tasks through a broker and workers like ours.
        embedders: texts of each embedder.
    """

    copy: Rate
    sql: Rate
    tasks: Rate
    embedders: Embedders


def measure(here: Bare, amount: Amount, torch: Path | None, progress: Progress) -> Raw:
    """Measure each by itself; sentence-transformers where there is a Python that has it."""
    with here.cluster("raw", shard_count=2, pool_size=2) as settings, lane_of(settings) as lane:
        by_sql = _by_sql(here, lane, amount.raw)
        progress(f"our SQL alone: {by_sql.per_s:,.0f} memories/s")
        copied = _by_copy(here, settings, lane)
        progress(f"COPY into the same tables: {copied.per_s:,.0f} rows/s")
    tasks = nothing.measure(here, amount.tasks)
    progress(f"an empty Celery task: {tasks.per_s:,.0f}/s")
    return Raw(copied, by_sql, tasks, embedding.measure(here.provider, amount, torch, progress))


def _by_sql(here: Bare, lane: Lane, memories: int) -> Rate:
    """Batches of 100 and claims of their usual size, in one shard."""
    lane.cluster.begin()
    shard = lane.cluster.shard(0)
    texts = fresh_texts(1)
    agents = list(islice((name for name in map(str, count()) if shard_of(_TENANT, name, 2) == 0), _AGENTS))
    batches = [
        [MemoryItem(agent=agents[n % _AGENTS], content=next(texts)) for n in range(BATCH)]
        for _ in range(0, memories + 1000, BATCH)
    ]
    vectors = normal(1024)
    statements = Statements(lane, _TENANT, shard, lane.settings.claim_size)
    warm = 1000 // BATCH
    statements.store(batches[:warm], vectors)
    before, begun = here.cpu_s(), perf_counter()
    stored = statements.store(batches[warm:], vectors)
    took_s = perf_counter() - begun
    return Rate(round(stored / took_s, 1), stored, since(before, here.cpu_s()))


def _by_copy(here: Bare, settings: Settings, lane: Lane) -> Rate:
    """The rows that our SQL has written, into the empty tables of another shard, in one transaction."""
    tables = {"ids": "*", "memories": "*", lane.table: "agent, memory, embedding"}
    written, empty = lane.cluster.shard(0), lane.cluster.shard(1)
    with closing(psycopg.connect(settings.nodes["node-1"].get_secret_value())) as connection:
        rows = {name: _read(connection, written, name, columns) for name, columns in tables.items()}
        (stored,) = connection.execute(
            sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(written.schema, "memories"))
        ).fetchone() or (0,)
        before, begun = here.cpu_s(), perf_counter()
        for name, columns in tables.items():
            _write(connection, empty, name, columns, rows[name])
        connection.commit()
        took_s = perf_counter() - begun
    return Rate(round(stored / took_s, 1), stored, since(before, here.cpu_s()))


def _read(connection: "psycopg.Connection[tuple[int]]", shard: Shard, table: str, columns: str) -> bytes:
    what = sql.SQL("COPY (SELECT {} FROM {}) TO STDOUT (FORMAT binary)")
    with connection.cursor().copy(what.format(sql.SQL(columns), sql.Identifier(shard.schema, table))) as copy:
        return b"".join(bytes(block) for block in copy)


def _write(connection: "psycopg.Connection[tuple[int]]", shard: Shard, table: str, columns: str, rows: bytes) -> None:
    named = sql.SQL("" if columns == "*" else f"({columns})")
    what = sql.SQL("COPY {} {} FROM STDIN (FORMAT binary)").format(sql.Identifier(shard.schema, table), named)
    with connection.cursor().copy(what) as copy:
        copy.write(rows)
