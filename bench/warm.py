"""How often the vector of a question is known, with and without keeping vectors, and with and without warming.

Agents are asked the questions of the example conversation, and the same about others, some more often: the one of rank
k about as often as 1 / k^1.1. One in five is spelt otherwise. The first half is asked of a gateway that knows nothing,
then the duties run or do not, and the second half is asked. Each agent has a tenant of its own: none helps another.
"""

import json
import random
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from time import sleep

import httpx
import psycopg

import memlane.examples
from memlane.beat.duty import Slice
from memlane.beat.query_patterns import query_patterns
from memlane.beat.warm_cache import warm_cache
from memlane.bench.bare import Bare, lane_of
from memlane.config.settings import Settings
from memlane.contract import MemoryItem
from memlane.storage import tenants
from memlane.tasks import accept

TARGET = 0.8
"""The share of the second half whose vectors should be known."""

_SKEW = 1.1
_DISTINCT = 100
_ASKED = 150
_AGENTS = 10
_AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class Way:
    """How questions are dealt with.

    Attributes:
        name: for people.
        keeping: whether the vectors of questions are kept when they are asked.
        warming: whether the duties run between the halves.
        lost: whether the cache is emptied before that, as by a new model.
    """

    name: str
    keeping: bool
    warming: bool
    lost: bool = False


WAYS = (
    Way("neither", keeping=False, warming=False),
    Way("warming alone", keeping=False, warming=True),
    Way("keeping alone", keeping=True, warming=False),
    Way("both", keeping=True, warming=True),
    Way("keeping, the cache lost between the halves", keeping=True, warming=False, lost=True),
    Way("both, the cache lost between the halves", keeping=True, warming=True, lost=True),
)


@dataclass(frozen=True, slots=True)
class Hits:
    """What a way of dealing with questions came to.

    Attributes:
        name: of the way.
        first: the share of the first half whose vectors were known.
        second: the same of the second half.
        patterns: the same of those questions of the second half that were patterns after the first.
        inputs: how many texts the provider was asked for in all.
        rows: how many vectors the cache has in the end.
        once: how many of these are of questions that were asked once.
    """

    name: str
    first: float
    second: float
    patterns: float
    inputs: int
    rows: int
    once: int


@dataclass(frozen=True, slots=True)
class WarmBench:
    """All ways, and how many questions were asked in each half."""

    asked: int
    ways: Sequence[Hits]

    @property
    def good(self) -> bool:
        """Whether enough is known of what was kept and warmed."""
        return next(way.second for way in self.ways if way.name == "both") >= TARGET


def measure(here: Bare, *, short: bool, progress: Callable[[str], None]) -> WarmBench:
    """Ask the same questions in each way."""
    agents = 4 if short else _AGENTS
    found = []
    for number, way in enumerate(WAYS):
        with here.cluster(f"warm_{number}", shard_count=4) as settings:
            found.append(_hits(here, settings, way, agents))
        progress(f"{way.name}: {found[-1].first:.1%}, then {found[-1].second:.1%}")
    return WarmBench(agents * _ASKED, found)


def report(found: WarmBench) -> str:
    """The figures, for people, in Markdown."""
    rows = [
        f"| {way.name} | {way.first:.1%} | {way.second:.1%} | {way.patterns:.1%} | {way.inputs:,} | {way.rows:,} "
        f"| {way.once:,} |"
        for way in found.ways
    ]
    lines = [
        f"Questions whose vectors were known: {found.asked:,} questions a half; target: {TARGET:.0%} of the second.",
        "",
        "| | first half | second half | of its patterns | texts sent | rows in the cache | of these asked once |",
        "|---|---|---|---|---|---|---|",
        *rows,
    ]
    return "\n".join(lines) + "\n"


def questions(agent: int) -> list[str]:
    """An agent's questions, the most frequent first: those of the example, and the same of somebody else."""
    folder = Path(str(memlane.examples.__path__[0]))
    asked = [one["question"] for one in json.loads((folder / "conversation.json").read_text())[0]["qa"]]
    others = [text.replace("Ruben", "Ines").replace("Hanne", "Jonas") for text in asked]
    found = list(dict.fromkeys([*asked, *(text if text not in asked else f"{text} And now?" for text in others)]))
    random.Random(agent).shuffle(found)
    return found[:_DISTINCT]


def _asked(agent: int) -> Iterator[str]:
    """What an agent is asked, in order, without end."""
    chance, known = random.Random(1000 + agent), questions(agent)
    weights = list(accumulate(1 / rank**_SKEW for rank in range(1, len(known) + 1)))
    while True:
        (text,) = chance.choices(known, cum_weights=weights)
        yield chance.choice((text.lower(), text.upper(), f" {text}  ")) if chance.random() < 0.2 else text


def _hits(here: Bare, settings: Settings, way: Way, agents: int) -> Hits:
    with lane_of(settings) as lane:
        control = lane.cluster.control
        for agent in range(agents):
            tenants.create_tenant(control, _name(agent))
            accept.accept(lane, _name(agent), [MemoryItem(agent="agent", content="hello")])
        keys = [tenants.create_key(control, _name(agent)) for agent in range(agents)]
        before = _inputs(here)
        asked = [_asked(agent) for agent in range(agents)]
        with here.gateway(settings, question_cache=str(way.keeping).lower()) as url:
            _ask(url, keys, asked)
            _await_log(settings, agents * _ASKED)
            _each(settings, "CREATE TABLE IF NOT EXISTS public.half AS SELECT clock_timestamp() AS at")
            if way.lost:
                _each(settings, "DELETE FROM {schema}.embedding_cache")
            if way.warming:
                query_patterns(lane, Slice(600.0))
                warm_cache(lane, Slice(600.0))
            _ask(url, keys, asked)
            _await_log(settings, 2 * agents * _ASKED)
        if not way.warming:
            query_patterns(lane, Slice(600.0))  # to know which they would have been
        return _counted(settings, way, _inputs(here) - before)


def _ask(url: str, keys: Sequence[str], asked: Sequence[Iterator[str]]) -> None:
    """Ask half of the questions, those of the agents in turn, some at once; each agent's own one after the other."""
    with httpx.Client(base_url=url, timeout=60) as http:

        def ask(agent: int) -> None:
            for _ in range(_ASKED):
                body = {"agent": "agent", "query": next(asked[agent])}
                answer = http.post("/v1/recall", json=body, headers={"Authorization": f"Bearer {keys[agent]}"})
                answer.raise_for_status()

        with ThreadPoolExecutor(_AT_ONCE) as pool:
            list(pool.map(ask, range(len(keys))))
    sleep(2.5)  # what is written once a second is written, vectors too


def _await_log(settings: Settings, rows: int) -> None:
    while sum(count for (count,) in _each(settings, "SELECT count(*) FROM {schema}.queries")) < rows:
        sleep(0.1)


def _counted(settings: Settings, way: Way, inputs: int) -> Hits:
    halves = _each(
        settings,
        "SELECT count(*) FILTER (WHERE q.cached AND q.at < h.at), count(*) FILTER (WHERE q.at < h.at),"
        " count(*) FILTER (WHERE q.cached AND q.at >= h.at), count(*) FILTER (WHERE q.at >= h.at),"
        " count(*) FILTER (WHERE q.cached AND q.at >= h.at AND p.agent IS NOT NULL),"
        " count(*) FILTER (WHERE q.at >= h.at AND p.agent IS NOT NULL)"
        " FROM public.half h CROSS JOIN {schema}.queries q"
        " LEFT JOIN {schema}.patterns p ON p.agent = q.agent AND p.query_hash = q.query_hash",
    )
    first, of_first, second, of_second, patterns, of_patterns = (sum(column) for column in zip(*halves, strict=True))
    cache = _each(
        settings,
        "SELECT (SELECT count(*) FROM {schema}.embedding_cache),"
        " (SELECT count(*) FROM (SELECT FROM {schema}.queries GROUP BY agent, query_hash HAVING count(*) = 1) o)",
    )
    rows, once = (sum(column) for column in zip(*cache, strict=True))
    return Hits(
        way.name,
        first / of_first,
        second / of_second,
        patterns / max(1, of_patterns),
        inputs,
        rows,
        once if way.keeping and not way.lost else 0,
    )


def _each(settings: Settings, statement: str) -> list[tuple[int, ...]]:
    """Run a statement of our own on each shard; the rows of all."""
    found: list[tuple[int, ...]] = []
    with psycopg.connect(settings.nodes["node-1"].get_secret_value(), autocommit=True) as connection:
        for number in range(settings.shard_count):
            cursor = connection.execute(statement.replace("{schema}", f"shard_{number:02d}").encode())
            found += cursor.fetchall() if cursor.description else []
    return found


def _inputs(here: Bare) -> int:
    """How many texts the provider was asked for so far."""
    return int(httpx.get(f"{here.provider}/stats").json()["inputs"])


def _name(agent: int) -> str:
    return f"tenant-{agent}"
