"""How long a tenant waits while another one has a hundred thousand jobs open.

    python -m memlane.bench.limits_fairness [--open 100000] [--rounds 20] [--json FILE]

It starts a stack in a temporary directory, with a provider that takes 50 ms. One tenant hands over until so many of its
jobs are open; then another hands over ten memories every few seconds, and waits until they are searchable.
"""

import argparse
import asyncio
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from memlane.admin import Admin
from memlane.bench.figures import Circumstances, Percentiles, circumstances, percentiles
from memlane.bench.output import publish, say, told
from memlane.bench.servers import Servers, servers
from memlane.bench.texts import fresh_texts
from memlane.client import AsyncClient
from memlane.contract import MemoryItem

TARGET_MS = 2000.0
"""Until 95 of a hundred memories of the quiet tenant can be found by meaning."""

_LATENCY_MS = 50.0
_BATCH = 500
_PRODUCERS = 4
_AGENTS = 200
_TEN = 10
_EVERY_S = 3.0
_PATIENCE_S = 300.0


@dataclass(frozen=True, slots=True)
class Fairness:
    """What the quiet tenant saw, and what that rests on.

    Attributes:
        open_first: the loud tenant's open jobs when the first ten came.
        open_last: the same after the last.
        alone_ms: until a memory of the quiet tenant was searchable, while nobody else was there.
        searchable_ms: the same beside the loud tenant.
        rounds: how often it handed ten memories over.
        per_s: memories of the loud tenant that became searchable in a second meanwhile.
        circumstances: of the run.
        versions: of the servers.
    """

    open_first: int
    open_last: int
    alone_ms: Percentiles
    searchable_ms: Percentiles
    rounds: int
    per_s: float
    circumstances: Circumstances
    versions: Mapping[str, str]

    @property
    def kept(self) -> bool:
        """Whether the target was met."""
        return self.searchable_ms.p95 <= TARGET_MS


def measure(jobs: int, rounds: int, progress: Callable[[str], None]) -> Fairness:
    """Measure once.

    Args:
        jobs: how many jobs of the loud tenant are open before the quiet one comes.
        rounds: how often the quiet one hands ten memories over.
        progress: told each step.
    """
    progress("starting a stack")
    with servers(_LATENCY_MS) as here, closing(Admin(here.url, here.secrets.admin_key)) as admin:
        admin.create_tenant("quiet")
        quiet = admin.create_key("quiet")
        texts = fresh_texts(1)
        alone = asyncio.run(_tens(here, quiet, texts, max(3, rounds // 4)))
        progress(f"alone: {percentiles(alone).p50:.0f} ms until searchable")
        asyncio.run(_fill(here, admin, texts, jobs, progress))
        first, begun = _open(admin), perf_counter()
        progress(f"{first} jobs are open; now the quiet tenant comes")
        times = asyncio.run(_tens(here, quiet, texts, rounds))
        last, took_s = _open(admin), perf_counter() - begun
        found = percentiles(times)
        progress(f"beside them: {found.p50:.0f} ms, 95 of a hundred within {found.p95:.0f} ms; {last} are open now")
        return Fairness(
            open_first=first,
            open_last=last,
            alone_ms=percentiles(alone),
            searchable_ms=found,
            rounds=rounds,
            per_s=round((first - last) / took_s, 1),
            circumstances=circumstances(admin.status()),
            versions=here.versions(),
        )


async def _fill(here: Servers, admin: Admin, texts: Iterator[str], jobs: int, progress: Callable[[str], None]) -> None:
    """Hand over for the loud tenant until so many of its jobs are open."""
    full = asyncio.Event()

    async def produce(client: AsyncClient) -> None:
        while not full.is_set():
            items = [MemoryItem(agent=f"loud-{n % _AGENTS}", content=next(texts)) for n in range(_BATCH)]
            await client.remember_many(items)

    async with AsyncClient(here.url, here.secrets.tenant_key, timeout=120) as client:
        producers = [asyncio.create_task(produce(client)) for _ in range(_PRODUCERS)]
        while (now := await asyncio.to_thread(_open, admin)) < jobs:
            progress(f"{now} jobs are open")
            await asyncio.sleep(2.0)
        full.set()
        await asyncio.gather(*producers)


def _open(admin: Admin) -> int:
    return sum(job.open for job in admin.status().jobs)


async def _tens(here: Servers, key: str, texts: Iterator[str], rounds: int) -> list[float]:
    """Milliseconds until each memory was searchable: ten of ten agents at once, again every few seconds."""
    times: list[float] = []

    async def one(client: AsyncClient, number: int) -> None:
        sent = perf_counter()
        receipt = await client.remember(f"quiet-{number}", next(texts))
        await receipt.wait("searchable", timeout=_PATIENCE_S)
        times.append((perf_counter() - sent) * 1000)

    async def ten(client: AsyncClient, round_: int) -> None:
        await asyncio.gather(*(one(client, round_ * _TEN + n) for n in range(_TEN)))

    async with AsyncClient(here.url, key, timeout=120) as client:
        await client.ledger()  # the connection is there
        under_way = []
        for round_ in range(rounds):
            under_way.append(asyncio.create_task(ten(client, round_)))
            await asyncio.sleep(_EVERY_S)
        await asyncio.gather(*under_way)
    return times


def report(found: Fairness) -> str:
    """Everything, for people, in Markdown."""
    rows: Sequence[tuple[str, Percentiles]] = (("alone", found.alone_ms), ("beside it", found.searchable_ms))
    meant = (
        f"One tenant has {found.open_first:,} jobs open ({found.open_last:,} in the end, {found.per_s:,.0f} done in a "
        f"second); another hands over ten memories every {_EVERY_S:g} s, {found.rounds} times. Until they are "
        f"searchable, with a provider that takes {_LATENCY_MS:g} ms (target: p95 of {TARGET_MS:,.0f} ms):"
    )
    lines = [
        meant,
        "",
        "| the other tenant | p50, ms | p95, ms | max, ms |",
        "| ---------------- | ------- | ------- | ------- |",
        *(f"| {name} | {ms.p50:,.0f} | {ms.p95:,.0f} | {ms.max:,.0f} |" for name, ms in rows),
        "",
        *told(found.circumstances, found.versions),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure once, and print; the exit code is 1 if the target was missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--open", type=int, default=100_000, help="jobs of the loud tenant")
    parser.add_argument("--rounds", type=int, default=20, help="how often the quiet one hands over")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write one JSON document as well")
    given = parser.parse_args()
    found = measure(given.open, given.rounds, say)
    publish(found, report(found), given.json)
    sys.exit(not found.kept)


if __name__ == "__main__":
    main()
