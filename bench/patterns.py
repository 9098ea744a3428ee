"""How long it takes to find the patterns in the logs of many agents."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import psycopg
from psycopg import sql

from memlane.beat.duty import Slice
from memlane.beat.query_patterns import query_patterns
from memlane.bench.bare import Bare, lane_of
from memlane.storage import queries
from memlane.storage.agents import FORGET
from memlane.storage.cluster import Shard
from memlane.storage.connections import Row
from memlane.tasks.lane import Lane

TARGET_S = 30.0
"""How long it may take for 10,000 agents with 100 questions each."""

_AGENTS, _QUESTIONS, _DISTINCT = 10_000, 100, 40

# Questions come in the order of time, so that those of one agent lie far apart, as they do where all are asked at once.
# Rank k of an agent's 40 questions comes about as often as 1 / k.
_SEED = """
WITH named AS (
    INSERT INTO {schema}.agents (tenant, agent) SELECT 'bench', name FROM unnest(%(names)s::text[]) AS n(name)
    RETURNING number
)
INSERT INTO {schema}.queries (agent, at, query_hash, query, spelt, ms, hits, cached)
SELECT number, now() - make_interval(mins => 10 * (%(questions)s + 1 - round)),
       sha256(convert_to(query, 'UTF8')), query, initcap(query), 5, 10, false
FROM generate_series(1, %(questions)s) AS r(round) CROSS JOIN named
CROSS JOIN LATERAL (SELECT floor(exp(random() * ln(%(distinct)s))) AS rank WHERE round > 0) AS chosen
CROSS JOIN LATERAL (SELECT format('what did %%s say of plan %%s?', number, rank) AS query) AS q
ORDER BY round
"""


@dataclass(frozen=True, slots=True)
class PatternsBench:
    """What finding patterns took.

    Attributes:
        agents: whose questions were looked at.
        rows: how many questions were logged.
        patterns: how many patterns there are.
        first_s: all agents.
        again_s: the run after that, when nobody had asked.
        some_s: when a tenth of the agents had asked.
        disk_mb: of the log, with its indexes.
        plan: how Postgres goes about a statement of 200 agents.
    """

    agents: int
    rows: int
    patterns: int
    first_s: float
    again_s: float
    some_s: float
    disk_mb: float
    plan: Sequence[str]

    @property
    def good(self) -> bool:
        """Whether it is fast enough."""
        return self.first_s <= TARGET_S * self.agents / _AGENTS


def measure(here: Bare, *, short: bool, progress: Callable[[str], None]) -> PatternsBench:
    """Seed the logs by SQL, and run the duty three times."""
    agents = _AGENTS // 20 if short else _AGENTS
    with here.cluster("patterns") as settings, lane_of(settings) as lane:
        rows, disk_mb = _seed(lane, agents)
        progress(f"{rows:,} questions are logged")
        first_s = _run(lane, progress)
        again_s = _run(lane, progress)
        for shard in lane.cluster.shards():
            _execute(lane, shard, _ASK_SOME)
        some_s = _run(lane, progress)
        found, plan = _count(lane, "patterns"), _plan(lane, lane.cluster.shards()[0])
        return PatternsBench(agents, rows, found, first_s, again_s, some_s, disk_mb, plan)


def report(found: PatternsBench) -> str:
    """The figures, for people, in Markdown."""
    return (
        f"Patterns of {found.agents:,} agents in {found.rows:,} logged questions: {found.first_s} s (target "
        f"{TARGET_S:g} s for {_AGENTS:,}); again, when nobody has asked: {found.again_s} s; when a tenth has: "
        f"{found.some_s} s. {found.patterns:,} patterns; the log takes {found.disk_mb} MB with its indexes.\n\n"
        "How Postgres finds those of 200 agents:\n\n```\n" + "\n".join(found.plan) + "\n```\n"
    )


_ASK_SOME = """
INSERT INTO {schema}.queries (agent, query_hash, query, ms, hits, cached)
SELECT number, sha256('new'), 'new', 5, 10, false FROM {schema}.agents WHERE number % 10 = 0
"""


def _seed(lane: Lane, agents: int) -> tuple[int, float]:
    """Give agents their logs; how many rows there are, and how many megabytes they take."""
    names: dict[int, list[str]] = {}
    for name in (f"agent-{number}" for number in range(agents)):
        names.setdefault(lane.cluster.shard_of("bench", name), []).append(name)
    megabytes = 0.0
    for shard in lane.cluster.shards():
        told = {"names": names.get(shard.number, []), "questions": _QUESTIONS, "distinct": _DISTINCT}
        _execute(lane, shard, _SEED, told)
        _execute(lane, shard, "ANALYZE {schema}.queries, {schema}.agents")
        ((taken,),) = _execute(lane, shard, "SELECT pg_total_relation_size('{schema}.queries') / 1e6")
        megabytes += float(taken)
    return _count(lane, "queries"), round(megabytes, 1)


def _run(lane: Lane, progress: Callable[[str], None]) -> float:
    begun = perf_counter()
    said = query_patterns(lane, Slice(600.0))
    took = round(perf_counter() - begun, 2)
    progress(f"{took} s: {said}")
    return took


def _plan(lane: Lane, shard: Shard) -> list[str]:
    """How the duty's statement is executed, prepared as it is there, for the first agents of a shard."""
    names: list[str] = []

    def placed(found: "re.Match[str]") -> str:
        if found[1] not in names:
            names.append(found[1])
        return f"${names.index(found[1]) + 1}"

    text = re.sub(r"%\((\w+)\)s", placed, shard.render(queries.load("patterns")["learn"]).decode())
    settings = lane.settings
    told = {
        "agents": list(range(1, 201)),
        "window": settings.pattern_window,
        "least": settings.pattern_least,
        "forget": FORGET,
        "epoch": shard.epoch,
    }
    given = sql.SQL(", ").join(sql.Literal(told[name]) for name in names)
    with shard.node.connection() as connection:
        connection.execute(f"PREPARE learn AS {text}".encode())
        explained = sql.SQL("EXPLAIN (ANALYZE, BUFFERS, COSTS OFF, TIMING OFF) EXECUTE learn({})").format(given)
        plan = [line for (line,) in connection.execute(explained).fetchall()]
        connection.execute("DEALLOCATE learn")
    return plan


def _execute(lane: Lane, shard: Shard, statement: str, params: Mapping[str, Any] | None = None) -> list[Row]:
    """Run a statement of our own, which may take its time."""
    uri = lane.settings.nodes[shard.node.name].get_secret_value()
    with psycopg.connect(uri, autocommit=True) as connection:
        cursor = connection.execute(statement.replace("{schema}", shard.schema).encode(), params)
        return cursor.fetchall() if cursor.description else []


def _count(lane: Lane, table: str) -> int:
    made = sql.SQL("SELECT count(*) FROM {}")
    total = 0
    for shard in lane.cluster.shards():
        with shard.node.connection() as connection:
            total += connection.execute(made.format(sql.Identifier(shard.schema, table))).fetchall()[0][0]
    return total
