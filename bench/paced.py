"""Time to searchable under a load that is not the most: batches are handed over at a steady pace, ready or not."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from time import perf_counter

from memlane.bench.figures import Percentiles, percentiles
from memlane.bench.ingest import batches
from memlane.bench.servers import Servers
from memlane.client import AsyncClient
from memlane.contract import MemoryItem

_BATCH = 100
_AGENTS = 100
_PATIENCE_S = 120.0


@dataclass(frozen=True, slots=True)
class PacedFigures:
    """Of batches of 100 that mix 100 agents.

    Attributes:
        per_s: memories that were handed over a second.
        memories: in all.
        accept_ms: until the call returned.
        searchable_ms: from the call until the last of a batch could be found by meaning.
    """

    per_s: float
    memories: int
    accept_ms: Percentiles
    searchable_ms: Percentiles


def measure(here: Servers, per_s: float, seconds: float) -> PacedFigures:
    """Hand over so many memories a second for a while.

    Each batch has its time: one that is late does not put the others off, or the load would be less when it matters.
    """
    pause_s = _BATCH / per_s
    memories = _BATCH * max(4, int(seconds / pause_s))
    accept_ms: list[float] = []
    searchable_ms: list[float] = []

    async def hand_over(client: AsyncClient, batch: list[MemoryItem], at: float) -> None:
        await asyncio.sleep(at - perf_counter())
        result = await client.remember_many(batch)
        accept_ms.append((perf_counter() - at) * 1000)
        await result.wait("searchable", timeout=_PATIENCE_S)
        searchable_ms.append((perf_counter() - at) * 1000)

    async def run(waiting: Iterator[list[MemoryItem]]) -> None:
        async with AsyncClient(here.url, here.secrets.tenant_key, timeout=120) as client:
            await client.ledger()
            begun = perf_counter() + 0.1
            await asyncio.gather(
                *(hand_over(client, batch, begun + number * pause_s) for number, batch in enumerate(waiting))
            )

    asyncio.run(run(batches(memories, _BATCH, _AGENTS)))
    return PacedFigures(round(per_s, 1), memories, percentiles(accept_ms), percentiles(searchable_ms))
