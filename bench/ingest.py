"""How fast memories are taken in, and how soon they can be found by meaning."""

import asyncio
import json
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from time import perf_counter

from memlane.admin import Admin
from memlane.bench.figures import Circumstances, Percentiles, circumstances, percentiles
from memlane.bench.texts import fresh_texts
from memlane.client import AsyncClient
from memlane.client.receipts import AsyncBatch
from memlane.contract import MemoryItem

_PATIENCE_S = 600.0


@dataclass(frozen=True, slots=True)
class Load:
    """What is sent: so many memories of so many agents in batches, by so many producers side by side."""

    memories: int
    agents: int
    batch: int
    producers: int
    provider: str | None = None
    """The provider's base URL, to count what it was asked; it has to offer /stats."""
    idle: bool = False
    """Whether a producer waits until a batch is searchable before it sends the next: what a lone caller sees."""


@dataclass(frozen=True, slots=True)
class Provider:
    """What the provider was asked: as many inputs as memories, or a cache has helped."""

    requests: int
    inputs: int


@dataclass(frozen=True, slots=True)
class IngestFigures:
    """Searchable means: the vector is committed. A batch's time counts for each of its memories."""

    load: Load
    accepted_per_s: float
    searchable_per_s: float
    accept_ms: Percentiles
    searchable_ms: Percentiles
    provider: Provider | None
    circumstances: Circumstances


@dataclass
class _Times:
    begun: float = field(default_factory=perf_counter)
    accepted: float = 0.0
    accept_ms: list[float] = field(default_factory=list)
    searchable_ms: list[float] = field(default_factory=list)
    waits: list[asyncio.Task[None]] = field(default_factory=list)


def bench_ingest(url: str, api_key: str, admin: Admin, load: Load, advance: Callable[[int], None]) -> IngestFigures:
    """Send a load, and wait until all of it is searchable; `advance` is told of each batch that is."""
    before = stats(load.provider) if load.provider else None
    times = asyncio.run(_run(url, api_key, load, advance))
    ended = perf_counter()
    after = stats(load.provider) if load.provider else None
    return IngestFigures(
        load=load,
        accepted_per_s=round(load.memories / (times.accepted - times.begun), 1),
        searchable_per_s=round(load.memories / (ended - times.begun), 1),
        accept_ms=percentiles(times.accept_ms),
        searchable_ms=percentiles(times.searchable_ms),
        provider=Provider(after[0] - before[0], after[1] - before[1]) if before and after else None,
        circumstances=circumstances(admin.status()),
    )


async def _run(url: str, api_key: str, load: Load, advance: Callable[[int], None]) -> _Times:
    waiting = batches(load.memories, load.batch, load.agents)
    async with AsyncClient(url, api_key, timeout=120) as client:
        await client.ledger()  # the connection is there before the clock runs
        times = _Times()
        await asyncio.gather(*(_produce(client, load, waiting, times, advance) for _ in range(load.producers)))
        times.accepted = perf_counter()
        await asyncio.gather(*times.waits)
    return times


async def _produce(
    client: AsyncClient,
    load: Load,
    waiting: Iterator[list[MemoryItem]],
    times: _Times,
    advance: Callable[[int], None],
) -> None:
    for batch in waiting:
        sent = perf_counter()
        result = await client.remember_many(batch)
        times.accept_ms.append((perf_counter() - sent) * 1000)
        wait = asyncio.create_task(_searchable(result, sent, times, advance))
        times.waits.append(wait)
        if load.idle:
            await wait


async def _searchable(result: AsyncBatch, sent: float, times: _Times, advance: Callable[[int], None]) -> None:
    await result.wait("searchable", timeout=_PATIENCE_S)
    times.searchable_ms.append((perf_counter() - sent) * 1000)
    advance(len(result.receipts))


def batches(memories: int, size: int, agents: int) -> Iterator[list[MemoryItem]]:
    """Batches that mix the agents, each text a fresh one."""
    texts = fresh_texts(1)
    numbers = count()
    for start in range(0, memories, size):
        some = range(min(size, memories - start))
        yield [MemoryItem(agent=f"bench-{next(numbers) % agents}", content=next(texts)) for _ in some]


def stats(provider: str) -> tuple[int, int]:
    """How many requests and inputs a provider has counted, by its base URL."""
    with urllib.request.urlopen(f"{provider.rstrip('/')}/stats", timeout=10) as answer:  # noqa: S310  # given by the operator
        found = json.load(answer)
    return int(found["requests"]), int(found["inputs"])
