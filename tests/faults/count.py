"""The count: what is really there, by SQL of its own on each shard, held against what the load was told."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import psycopg
import redis

from tests.faults.notes import Fate, Name, Note, Notes

_ALIKE = 0.99
"""The cosine of a vector and what is kept of it in half precision is above this."""

Connection = psycopg.Connection[tuple[Any, ...]]
Finding = tuple[str, str]
"""What is wrong, and with which memory."""


@dataclass(frozen=True)
class Servers:
    """Where the rows are.

    Attributes:
        nodes: the superuser's URI of each node.
        redis: of the Redis that is the broker, if there is one.
        table: the current model's table of vectors.
        vector_of: what the model makes of a text, of length 1.
    """

    nodes: Mapping[str, str]
    redis: str | None
    table: str
    vector_of: Callable[[str], npt.NDArray[np.float32]]


@dataclass(frozen=True)
class Counted:
    """What a count came to; each entry of a list says what is wrong with one memory or one shard.

    Attributes:
        memories: rows that were looked at.
        lost: there is a receipt, but no memory, no vector, no identity, or another content.
        doubled: there is more than one of something, or something that nobody asked for.
        resurrected: something is left of what was forgotten.
        unbalanced: counts that do not agree with the rows.
        still_open: jobs that are open, not counting those that are parked.
        still_leased: leases.
        parked: memories that are parked though nothing is wrong with them, or not parked though there is.
        unsafe: settings of a server with which a receipt is no promise.
    """

    memories: int = 0
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    resurrected: list[str] = field(default_factory=list)
    unbalanced: list[str] = field(default_factory=list)
    still_open: int = 0
    still_leased: int = 0
    parked: list[str] = field(default_factory=list)
    unsafe: list[str] = field(default_factory=list)

    @property
    def wrong(self) -> list[str]:
        """All that is wrong, in lines."""
        said = {
            "lost": self.lost,
            "doubled": self.doubled,
            "resurrected": self.resurrected,
            "unbalanced": self.unbalanced,
            "parked": self.parked,
            "unsafe": self.unsafe,
        }
        lines = [f"{kind}: {line}" for kind, found in said.items() for line in found]
        left = {"jobs still open": self.still_open, "leases still held": self.still_leased}
        return [*lines, *(f"{number} {what}" for what, number in left.items() if number)]


@dataclass
class Rows:
    """What the shards hold of some agents, read whole."""

    vector_of: Callable[[str], npt.NDArray[np.float32]]
    memories: dict[Name, list[tuple[int, str, int]]] = field(default_factory=dict)
    """Number, content and version of each row."""
    identities: dict[Name, list[str]] = field(default_factory=dict)
    vectors: dict[tuple[str, int], list[list[float]]] = field(default_factory=dict)
    versions: dict[tuple[str, int], list[int]] = field(default_factory=dict)
    jobs: dict[Name, list[tuple[str, bool]]] = field(default_factory=dict)
    """Kind and whether it is parked."""


def count(servers: Servers, notes: Notes, agents: str) -> Counted:
    """Count all that belongs to agents whose names begin with a word, and what each shard says of itself."""
    rows = Rows(servers.vector_of)
    found = Counted(unsafe=list(_unsafe(servers)))
    left: Counter[str] = Counter()
    for node, uri in servers.nodes.items():
        with psycopg.connect(uri, autocommit=True) as connection:
            for schema in _schemas(connection):
                _read(connection, schema, servers.table, f"{agents}%", rows)
                found.unbalanced.extend(f"{node} {schema}: {line}" for line in _unbalanced(connection, schema))
                found.doubled.extend(f"{node} {schema}: {line}" for line in _doubled(connection, schema, servers))
                left += _left(connection, schema)
            found.unbalanced.extend(f"{node}: {line}" for line in _misspent(connection))
    _compare(rows, notes, found)
    found.resurrected.extend(notes.seen_again)
    found.doubled.extend(notes.refused)
    return Counted(
        **{**vars(found), "memories": len(rows.memories), "still_open": left["open"], "still_leased": left["leased"]}
    )


def left_to_do(servers: Servers) -> int:
    """How many jobs are open and leases held on all nodes; -1 if one does not answer."""
    try:
        return at_work(servers).total()
    except psycopg.OperationalError:
        return -1


def at_work(servers: Servers) -> Counter[str]:
    """How many jobs are open, and how many leases are held, on all nodes."""
    total: Counter[str] = Counter()
    for uri in servers.nodes.values():
        with psycopg.connect(uri, autocommit=True) as connection:
            for schema in _schemas(connection):
                total += _left(connection, schema)
    return total


def _left(connection: Connection, schema: str) -> Counter[str]:
    open_ = f"SELECT count(*) FROM {schema}.jobs WHERE parked_at IS NULL"
    leased = f"SELECT count(*) FROM {schema}.leases"
    return Counter({"open": _one(connection, open_), "leased": _one(connection, leased)})


def _schemas(connection: Connection) -> list[str]:
    wanted = r"SELECT nspname FROM pg_namespace WHERE nspname LIKE 'shard\_%' ORDER BY 1"
    return [name for (name,) in connection.execute(wanted)]


def _one(connection: Connection, query: str, *params: object) -> Any:
    row = connection.execute(query.encode(), params or None).fetchone()
    return row[0] if row else None


def _unsafe(servers: Servers) -> Iterator[str]:
    """Settings that have to be on for a receipt to be a promise."""
    for node, uri in servers.nodes.items():
        with psycopg.connect(uri, autocommit=True) as connection:
            for name in ("fsync", "full_page_writes", "synchronous_commit"):
                if (value := _one(connection, f"SHOW {name}")) != "on":
                    yield f"{node}: {name} is {value}"
    if servers.redis is not None:
        with redis.Redis.from_url(servers.redis, decode_responses=True) as client:
            kept: Any = client.config_get("append*")
            for name, wanted in (("appendonly", "yes"), ("appendfsync", "always")):
                if kept[name] != wanted:
                    yield f"redis: {name} is {kept[name]}"


def _read(connection: Connection, schema: str, vectors: str, agents: str, rows: Rows) -> None:
    def of(columns: str, table: str) -> Iterable[Sequence[Any]]:
        query = f"SELECT a.agent, {columns} FROM {schema}.{table} t JOIN {schema}.agents a ON a.number = t.agent"
        return connection.execute(f"{query} WHERE a.agent LIKE %s".encode(), [agents])

    for agent, id_, number, content, version in of("t.id, t.number, t.content, t.version", "memories"):
        rows.memories.setdefault((agent, id_), []).append((number, content, version))
    for agent, id_, state in of("t.id, t.state", "ids"):
        rows.identities.setdefault((agent, id_), []).append(state)
    for agent, number, vector in of("t.memory, t.embedding::real[]", vectors):
        rows.vectors.setdefault((agent, number), []).append(vector)
    for agent, number, version in of("t.number, t.version", "versions"):
        rows.versions.setdefault((agent, number), []).append(version)
    for agent, id_, kind, parked in of("t.id, t.kind, t.parked_at IS NOT NULL", "jobs"):
        rows.jobs.setdefault((agent, id_), []).append((kind, parked))


def _compare(rows: Rows, notes: Notes, found: Counted) -> None:
    for note in notes:
        if note.deadly:
            _check_deadly(rows, note, found)
        else:
            _CHECKS[note.fate](rows, note, found)
    for name in rows.memories.keys() | rows.identities.keys():
        if notes.get(name) is None:
            found.doubled.append(f"nobody handed {name} over")
    for name, jobs in rows.jobs.items():
        known = notes.get(name)
        if any(parked for _, parked in jobs) and not (known and known.deadly):
            found.parked.append(f"{name} is parked")


def _check_there(rows: Rows, note: Note, found: Counted) -> None:
    stored = rows.memories.get(note.name, [])
    states = rows.identities.get(note.name, [])
    if not stored or states != ["searchable"]:
        found.lost.append(f"{note.name}: {len(stored)} rows, {states or 'no identity'}")
        return
    _check_once(rows, note, found)
    if stored[0][1] not in {note.said, *note.maybe}:
        found.lost.append(f"{note.name} says {stored[0][1]!r}, not {note.said!r}")


def _check_once(rows: Rows, note: Note, found: Counted) -> None:
    """What is there is there once, whole."""
    stored = rows.memories[note.name]
    number, content, version = stored[0]
    if len(stored) > 1:
        found.doubled.append(f"{note.name} has {len(stored)} rows")
    vectors = rows.vectors.get((note.agent, number), [])
    if len(vectors) != 1:
        (found.doubled if vectors else found.lost).append(f"{note.name} has {len(vectors)} vectors")
    elif rows.vector_of(content) @ vectors[0] < _ALIKE:
        found.lost.append(f"{note.name} has the vector of another text than {content!r}")
    before = sorted(rows.versions.get((note.agent, number), []))
    if before != list(range(1, version)):
        found.lost.append(f"{note.name} is version {version}, and has {before} before it")


def _check_unknown(rows: Rows, note: Note, found: Counted) -> None:
    if note.name in rows.memories:
        _check_there(rows, note, found)
    elif note.name in rows.identities and rows.identities[note.name] != ["forgotten"]:
        found.lost.append(f"{note.name}, which may not be there, is half there: {rows.identities[note.name]}")


def _check_gone(rows: Rows, note: Note, found: Counted) -> None:
    if stored := rows.memories.get(note.name):
        found.resurrected.append(f"{note.name} is there: {stored[0][1]!r}")
    if rows.identities.get(note.name) != ["forgotten"]:
        found.resurrected.append(f"{note.name} was forgotten and is {rows.identities.get(note.name)}")
    if jobs := rows.jobs.get(note.name):
        found.resurrected.append(f"{note.name} was forgotten and has jobs {jobs}")


def _check_maybe_gone(rows: Rows, note: Note, found: Counted) -> None:
    (_check_there if note.name in rows.memories else _check_gone)(rows, note, found)


def _check_deadly(rows: Rows, note: Note, found: Counted) -> None:
    """It is parked; and that alone, if it was taken in at all."""
    if note.fate is Fate.UNKNOWN and note.name not in rows.identities:
        return
    if rows.jobs.get(note.name) != [("remember", True)] or rows.identities.get(note.name) != ["parked"]:
        found.parked.append(
            f"{note.name} kills its readers: {rows.jobs.get(note.name)}, {rows.identities.get(note.name)}"
        )
    if note.name in rows.memories:
        found.doubled.append(f"{note.name} is parked and there")


_CHECKS: dict[Fate, Callable[[Rows, Note, Counted], None]] = {
    Fate.UNKNOWN: _check_unknown,
    Fate.THERE: _check_there,
    Fate.MAYBE_GONE: _check_maybe_gone,
    Fate.GONE: _check_gone,
}


def _unbalanced(connection: Connection, schema: str) -> Iterator[str]:
    """Equations between counts and rows that hold in a shard at rest."""
    sums = f"SELECT event, sum(count)::bigint FROM {schema}.ledger GROUP BY 1"
    events: Counter[str] = Counter(dict(connection.execute(sums.encode()).fetchall()))
    remember = _one(connection, f"SELECT count(*) FROM {schema}.jobs WHERE kind = 'remember'")
    accepted = events["stored"] + events["dropped"] + remember
    if events["accepted"] != accepted:
        yield f"accepted {events['accepted']}, but stored, dropped, parked and open are {accepted}"
    identities = _one(connection, f"SELECT count(*) FROM {schema}.ids")
    if events["accepted"] != identities:
        yield f"accepted {events['accepted']}, but {identities} identities"
    rows = _one(connection, f"SELECT count(*) FROM {schema}.memories")
    kept = events["stored"] - events["forgotten"] - events["expired"]
    if rows != kept:
        yield f"{rows} memories, but the ledger says {kept}"
    of_agents = """
        SELECT a.agent, a.memories, a.words, count(m.number), coalesce(sum(length(m.words)), 0)
        FROM {schema}.agents a LEFT JOIN {schema}.memories m ON m.agent = a.number
        GROUP BY a.number HAVING a.memories <> count(m.number) OR a.words <> coalesce(sum(length(m.words)), 0)"""
    for agent, memories, words, *really in connection.execute(of_agents.format(schema=schema).encode()):
        yield f"{agent} has {really[0]} memories and {really[1]} words, but counts {memories} and {words}"


_MISSPENT = """
    SELECT b.tenant, b.agent, s.settled, s.reserved, s.limit_micro * 1000000 AS most, used.cost, held.cost
    FROM control.budgets b JOIN control.spending s USING (tenant, agent, period)
    CROSS JOIN LATERAL (SELECT coalesce(sum(u.cost), 0) AS cost FROM control.usage u
                        WHERE u.tenant = b.tenant AND b.agent IN ('', u.agent) AND u.day >= s.starts) AS used
    CROSS JOIN LATERAL (SELECT coalesce(sum(g.tokens * r.price), 0) AS cost FROM control.reservations r
                        CROSS JOIN unnest(r.tenants, r.agents, r.tokens) AS g(tenant, agent, tokens)
                        WHERE g.tenant = b.tenant AND b.agent IN ('', g.agent) AND r.day >= s.starts) AS held
    WHERE (s.settled, s.reserved) <> (used.cost, held.cost) OR s.settled + s.reserved > s.limit_micro * 1000000"""


def _misspent(connection: Connection) -> Iterator[str]:
    """Budgets that are overspent, or do not agree with what was used and what is set aside."""
    if _one(connection, "SELECT to_regclass('control.spending')") is None:
        return
    for tenant, agent, *counts in connection.execute(_MISSPENT):
        yield f"budget of {tenant} {agent or 'as a whole'}: settled, set aside, limit, used, held: {counts}"


def _doubled(connection: Connection, schema: str, servers: Servers) -> Iterator[str]:
    """What there is twice, or belongs to no memory."""
    twice = "SELECT count(*) FROM (SELECT FROM {schema}.{table} GROUP BY {columns} HAVING count(*) > 1) AS twice"
    for table, columns in (
        ("memories", "agent, id"),
        ("ids", "agent, id"),
        ("ids", "number"),
        (servers.table, "agent, memory"),
    ):
        if found := _one(connection, twice.format(schema=schema, table=table, columns=columns)):
            yield f"{found} rows of {table} are there twice by {columns}"
    places = twice.format(schema=schema, table="memories", columns="agent, thread, position")
    if found := _one(connection, places.replace(" GROUP", " WHERE thread IS NOT NULL GROUP")):
        yield f"{found} places in a thread are taken twice"
    orphans = "SELECT count(*) FROM {schema}.{table} t WHERE NOT EXISTS ({memory} AND m.number = t.{number})"
    memory = f"SELECT FROM {schema}.memories m WHERE m.agent = t.agent"
    for table, number in ((servers.table, "memory"), ("versions", "number"), ("memory_stats", "number")):
        if found := _one(connection, orphans.format(schema=schema, table=table, memory=memory, number=number)):
            yield f"{found} rows of {table} belong to no memory"
