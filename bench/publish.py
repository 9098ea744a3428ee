"""The figures of a run, written into the docs: the report, and plots of it.

    python -m memlane.bench.publish FILE [--docs docs] [--command "make bench"]

FILE is what `--json` has written.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path

from memlane.bench import blocks, plots
from memlane.bench.comparison import Comparison
from memlane.bench.report import report
from memlane.bench.systems import System
from memlane.contract import wire


def publish(found: Comparison, docs: Path, command: str) -> None:
    """Write the page and the pictures of a docs folder."""
    assets = docs / "assets"
    assets.mkdir(exist_ok=True)
    pictures = _pictures(found)
    for name, picture in pictures.items():
        (assets / f"{name}.svg").write_text(picture)
    shown = [f"![{name}](../assets/{name}.svg)" for name in pictures]
    text = "\n\n".join([f"`{command}`:", *shown, report(found)])
    blocks.write(docs / "reference" / "benchmarks.md", "make bench", text)


def _pictures(found: Comparison) -> Mapping[str, str]:
    """Plots by the name of their file."""
    made = {"bench-ingest": plots.bars("Stored and searchable", "memories/s", _ways(found))}
    sizes = found.sizes_asked
    if sizes:
        series = {
            "cold: the provider is asked": [(size.memories, size.cold.p50) for size in sizes],
            "vector known": [(size.memories, size.warm.p50) for size in sizes],
            "asked again": [(size.memories, size.again.p50) for size in sizes],
            "vectors alone": [(size.memories, size.vector.ms.p50) for size in sizes],
        }
        made["bench-recall"] = plots.lines("Recall", "memories of the agent", "ms at the median", series)
    if found.growth:
        steps = found.growth.steps
        series = {
            "memories/s on the way there": [(step.memories, step.ingest_per_s) for step in steps],
            "recall of 1,000, ms at the median": [(step.memories, step.recall.p50) for step in steps],
        }
        made["bench-growth"] = plots.lines("Growth", "memories in all shards", "throughput and recall", series)
    return made


def _ways(found: Comparison) -> Mapping[str, float]:
    alone = {"our SQL alone: one connection": found.raw.sql.per_s} if found.raw else {}
    ways = {_way(system, way.name, way.batch): way.searchable_per_s for system in found.systems for way in system.ways}
    return {**ways, **alone}


def _way(system: System, name: str, batch: int) -> str:
    size = f", {batch} each" if batch > 1 and str(batch) not in name else ""
    return f"{system.name}: {name}{size}"


def main() -> None:
    """Publish once."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("file", type=Path, help="what --json has written")
    parser.add_argument("--docs", type=Path, default=Path("docs"), help="the folder of the docs")
    parser.add_argument("--command", default="make bench", help="that has made the figures")
    given = parser.parse_args()
    publish(wire.load(Comparison, given.file.read_bytes()), given.docs, given.command)


if __name__ == "__main__":
    main()
