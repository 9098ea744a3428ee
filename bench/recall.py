"""How fast questions are answered, by the number of memories that an agent has."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from time import perf_counter

import httpx

from memlane.admin import Admin
from memlane.bench.figures import Circumstances, Percentiles, circumstances, percentiles
from memlane.bench.texts import fresh_texts, queries
from memlane.client import Client
from memlane.contract import MemoryItem

_BATCH = 500


@dataclass(frozen=True, slots=True)
class RecallFigures:
    """Times over HTTP of one agent size; each question is asked once, so that no cache can help.

    Attributes:
        memories: how many the agent has.
        queries: how many questions were asked.
        recall_ms: from the question to the answer.
        embed_ms: of that, making the query's vector, as the server says.
        beside_ms: the rest.
    """

    memories: int
    queries: int
    recall_ms: Percentiles
    embed_ms: Percentiles
    beside_ms: Percentiles


@dataclass(frozen=True, slots=True)
class RecallBench:
    """Figures by agent size."""

    sizes: Sequence[RecallFigures]
    circumstances: Circumstances


def bench_recall(
    url: str, api_key: str, admin: Admin, sizes: Sequence[int], asked: int, advance: Callable[[int], None]
) -> RecallBench:
    """Make an agent of each size, unless it is there from before, and ask it; `advance` is told of each question."""
    with Client(url, api_key, timeout=120) as client:
        for size in sizes:
            _fill(client, size)
    with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {api_key}"}, timeout=60) as http:
        figures = [_ask(http, size, asked, advance) for size in sizes]
    return RecallBench(figures, circumstances(admin.status()))


def _fill(client: Client, size: int) -> None:
    """Give an agent its memories; keys make that harmless to repeat."""
    texts = fresh_texts(size)
    have = len(list(islice(client.memories(agent_of(size)), size)))
    for start in range(have, size, _BATCH):
        count = min(_BATCH, size - start)
        items = [MemoryItem(agent=agent_of(size), content=next(texts), thread=f"t{start}") for _ in range(count)]
        client.remember_many(items).wait("searchable", timeout=600)


def _ask(http: httpx.Client, size: int, asked: int, advance: Callable[[int], None]) -> RecallFigures:
    total, embed = [], []
    for number, query in enumerate(islice(queries(size), asked + 10)):
        begun = perf_counter()
        answer = http.post("/v1/recall", json={"agent": agent_of(size), "query": query, "limit": 10})
        took = (perf_counter() - begun) * 1000
        answer.raise_for_status()
        if number >= 10:  # the first ones warm connections and plans
            total.append(took)
            embed.append(_server_timing(answer)["embed"])
        advance(1)
    beside = [all_ - part for all_, part in zip(total, embed, strict=True)]
    return RecallFigures(size, asked, percentiles(total), percentiles(embed), percentiles(beside))


def _server_timing(answer: httpx.Response) -> dict[str, float]:
    """Milliseconds by name from the header of that name."""
    parts = (part.split(";dur=") for part in answer.headers["server-timing"].split(", "))
    return {name: float(took) for name, took in parts}


def agent_of(size: int) -> str:
    """The agent that has so many memories."""
    return f"bench-recall-{size}"
