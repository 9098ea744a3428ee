"""Recall while memories are taken in as fast as they can be, and of many agents that are all active."""

import random
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import islice
from threading import Event, Thread
from time import perf_counter

import httpx

from memlane.admin import Admin
from memlane.bench.figures import Percentiles, percentiles
from memlane.bench.ingest import IngestFigures, Load, bench_ingest
from memlane.bench.recall import agent_of
from memlane.bench.servers import Servers
from memlane.bench.texts import queries

_PRODUCERS = 4


@dataclass(frozen=True, slots=True)
class BesideFigures:
    """Of questions that were asked one after the other, each once; their embedding is in the times.

    Attributes:
        memories: that the agent which is asked has.
        alone: while nothing else goes on.
        beside: while batches of 100 are taken in by four callers.
        ingest_per_s: how fast they are, beside the questions.
    """

    memories: int
    alone: Percentiles
    beside: Percentiles
    ingest_per_s: float


@dataclass(frozen=True, slots=True)
class AgentsFigures:
    """Of many agents at once.

    Attributes:
        agents: how many.
        ingest_per_s: memories of all of them, in batches of 100 by four callers.
        recall: questions to one after the other, chosen by chance; their embedding is in the times.
    """

    agents: int
    ingest_per_s: float
    recall: Percentiles


def beside_ingest(here: Servers, size: int, asked: int) -> BesideFigures:
    """Ask the agent of a size, which is there, alone and beside ingest."""
    with _asking(here) as ask:
        alone = _times(ask, (agent_of(size) for _ in range(asked)), 11)
        with ingesting(here) as rates:
            beside = _times(ask, (agent_of(size) for _ in range(asked)), 12)
        return BesideFigures(size, alone, beside, round(sum(rates) / len(rates), 1))


def of_agents(here: Servers, agents: int, asked: int) -> AgentsFigures:
    """Give each of many agents two memories, in turn, and ask some."""
    chance = random.Random(1)
    load = Load(2 * agents, agents, 100, _PRODUCERS, here.provider)
    ingested = _ingest(here, load)
    with _asking(here) as ask:
        recall = _times(ask, (f"bench-{chance.randrange(agents)}" for _ in range(asked)), 13)
    return AgentsFigures(agents, ingested.searchable_per_s, recall)


def ask_one(here: Servers, agent: str, asked: int, seed: int) -> Percentiles:
    """Ask one agent, which has memories, one question after the other."""
    with _asking(here) as ask:
        return _times(ask, (agent for _ in range(asked)), seed)


def _ingest(here: Servers, load: Load) -> IngestFigures:
    with closing(Admin(here.url, here.secrets.admin_key)) as admin:
        return bench_ingest(here.url, here.secrets.tenant_key, admin, load, lambda _: None)


@contextmanager
def ingesting(here: Servers) -> Iterator[list[float]]:
    """Ingest in a thread of its own until the block ends; its rates, run by run, once it has."""
    over, begun, rates = Event(), Event(), list[float]()

    def run() -> None:
        while not over.is_set():
            begun.set()
            rates.append(_ingest(here, Load(5_000, 100, 100, _PRODUCERS, here.provider)).searchable_per_s)

    thread = Thread(target=run)
    thread.start()
    begun.wait()
    try:
        yield rates
    finally:
        over.set()
        thread.join()


def _times(ask: Callable[[str, str], None], agents: Iterator[str], seed: int) -> Percentiles:
    times = []
    for agent, question in zip(agents, queries(seed), strict=False):
        begun = perf_counter()
        ask(agent, question)
        times.append((perf_counter() - begun) * 1000)
    return percentiles(times)


@contextmanager
def _asking(here: Servers) -> Iterator[Callable[[str, str], None]]:
    headers = {"Authorization": f"Bearer {here.secrets.tenant_key}"}
    with httpx.Client(base_url=here.url, headers=headers, timeout=60) as http:

        def ask(agent: str, question: str) -> None:
            body = {"agent": agent, "query": question, "limit": 10}
            if not http.post("/v1/recall", json=body).raise_for_status().json()["hits"]:
                raise LookupError(f"{agent} has no memories")

        for question in islice(queries(10), 10):  # connections, plans
            http.post("/v1/recall", json={"agent": "nobody", "query": question})
        yield ask
