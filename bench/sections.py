"""The report of what is measured of memlane alone: raw limits, loads, recall by size, planning, and growth."""

from collections.abc import Iterator

from memlane.bench import growth
from memlane.bench.comparison import Comparison
from memlane.bench.figures import Percentiles, Rate
from memlane.bench.raw import Raw
from memlane.bench.systems import System
from memlane.bench.table import table

NONE = "-"

KINDS = ("client", "gateway", "workers", "Postgres", "Redis", "provider", "beats", "others")
"""What processes are, in the order in which a memory meets them."""


def sections(found: Comparison) -> Iterator[str]:
    """One after the other, as far as they were measured."""
    if found.raw:
        yield "Raw limits, each alone:"
        yield _raw(found.raw)
    yield from _loads(found)
    if found.sizes_asked:
        yield (
            "Recall by the agent's size, in ms, p50 / p95 / p99 over HTTP, without workers beside it. Cold: the "
            "provider is asked for the question's vector; known: it is cached; again: the same question a moment ago. "
            "Vectors alone: the very statement, in the process that asks Postgres; its share of the ten nearest:"
        )
        yield _sizes(found)
    if found.planning:
        planned = found.planning
        yield (
            f"Planning a recall with {planned.agents:,} agents and {planned.indexes} indexes in one shard takes "
            f"{planned.ordinary_ms.p50:.2f} ms at the median, {planned.promoted_ms.p50:.2f} for agents with an index; "
            "a session plans it once."
        )
    if found.caches:
        yield "Caches, one caller, one value after the other:"
        yield table(
            ("level", "gets/s", "puts/s"),
            [(level.name, f"{level.gets_per_s:,.0f}", f"{level.puts_per_s:,.0f}") for level in found.caches],
        )
    if found.growth:
        yield "Growth:"
        yield growth.report(found.growth)


def cpu(system: System) -> str:
    """CPU time per memory, of each kind of process, way by way."""
    kinds = [kind for kind in KINDS if any(kind in way.cpu_s for way in system.ways)]
    rows = [
        (way.name, str(way.batch), f"{way.cpu_ms():.2f}", *(f"{way.cpu_ms(kind):.3f}" for kind in kinds))
        for way in system.ways
    ]
    return table((f"{system.name}, CPU ms per memory", "batch", "all", *kinds), rows)


def _raw(raw: Raw) -> str:
    rows = [
        ("COPY into the same tables, one transaction", *_rate(raw.copy, "rows/s")),
        ("our SQL alone: accept, claim, finish; one connection, vectors given", *_rate(raw.sql, "memories/s")),
        ("an empty Celery task, 4 processes", *_rate(raw.tasks, "tasks/s")),
    ]
    for name, speed in raw.embedders.speeds.items():
        rows += [
            (f"{name}, one text", f"{speed.single_ms:.1f} ms", NONE),
            (f"{name}, batches of {speed.batch}", f"{speed.batch_per_s:,.0f} texts/s", f"{speed.cpu_ms:.2f}"),
        ]
    return table(("what", "figure", "CPU ms for each"), rows)


def _rate(rate: Rate, unit: str) -> tuple[str, str]:
    return f"{rate.per_s:,.0f} {unit}", f"{1000 * sum(rate.cpu_s.values()) / rate.count:.2f}"


def _loads(found: Comparison) -> Iterator[str]:
    if found.paced:
        paced = found.paced
        yield (
            f"Under half of the maximal load, {paced.per_s:,.0f} memories/s in batches of 100, each at its time: "
            f"accepted in {times(paced.accept_ms)} ms, searchable in {times(paced.searchable_ms)} ms."
        )
    if found.beside:
        beside = found.beside
        yield (
            f"Recall of {beside.memories:,}, each question with its embedding: {times(beside.alone)} ms alone, "
            f"{times(beside.beside)} ms while {beside.ingest_per_s:,.0f} memories/s are taken in."
        )
    if found.agents:
        agents = found.agents
        yield (
            f"{agents.agents:,} agents at once: {agents.ingest_per_s:,.0f} memories/s in batches of 100 that mix them, "
            f"and recall of some of them in {times(agents.recall)} ms, the embedding included."
        )


def _sizes(found: Comparison) -> str:
    rows = [
        (
            f"{size.memories:,}" + (", promoted" if size.promoted else ""),
            *(times(one) for one in (size.cold, size.warm, size.again, size.vector.ms)),
            f"{size.vector.recall:.1%}",
        )
        for size in found.sizes_asked
    ]
    return table(("memories", "cold", "vector known", "again", "vectors alone", "of the nearest"), rows)


def times(found: Percentiles) -> str:
    """Three percentiles."""
    return f"{found.p50:.1f} / {found.p95:.1f} / {found.p99:.1f}"
