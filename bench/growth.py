"""Growth: how fast memories are taken in and found while a set of shards fills.

    python -m memlane.bench.growth [--to 1000000] [--json FILE]

It starts a stack of its own, and takes about ten minutes for each million.
"""

import argparse
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from memlane.admin import Admin
from memlane.bench.beside import ask_one
from memlane.bench.figures import Circumstances, Percentiles, circumstances
from memlane.bench.ingest import Load, bench_ingest
from memlane.bench.output import Progress, publish, say
from memlane.bench.recall import agent_of, bench_recall
from memlane.bench.servers import Servers, servers
from memlane.bench.table import table

FROM, TO = 10_000, 1_000_000
SHARE = 0.8
"""Of the throughput at first that should be left at last."""

_PROBE = 1_000
_PRODUCERS = 4
_MEMORIES_OF_AN_AGENT = 1_000


@dataclass(frozen=True, slots=True)
class Step:
    """How it is when there are so many memories.

    Attributes:
        memories: in all shards.
        ingest_per_s: memories a second, on the way there.
        cpu_ms: of all processes, per memory on the way there.
        recall: of an agent with 1,000 memories, questions one after the other, their embedding included; in ms.
    """

    memories: int
    ingest_per_s: float
    cpu_ms: float
    recall: Percentiles


@dataclass(frozen=True, slots=True)
class Growth:
    """Step by step, and on what machine."""

    steps: Sequence[Step]
    circumstances: Circumstances

    @property
    def share(self) -> float:
        """What is left at last of the throughput at first."""
        return self.steps[-1].ingest_per_s / self.steps[0].ingest_per_s


def measure(to: int, asked: int, latency_ms: float, progress: Progress) -> Growth:
    """Fill a stack of its own to so many memories, in steps of about three times as many."""
    with servers(latency_ms) as here, closing(Admin(here.url, here.secrets.admin_key)) as admin:
        key = here.secrets.tenant_key
        bench_recall(here.url, key, admin, [_PROBE], 1, lambda _: None)
        steps: list[Step] = []
        have = 0
        for goal in _goals(to):
            steps.append(_step(here, admin, goal - have, goal, asked))
            have = goal
            progress(f"{goal:,} memories: {steps[-1].ingest_per_s:,.0f}/s, recall {steps[-1].recall.p50} ms")
        return Growth(steps, circumstances(admin.status()))


def _step(here: Servers, admin: Admin, more: int, goal: int, asked: int) -> Step:
    load = Load(more, max(100, goal // _MEMORIES_OF_AN_AGENT), 100, _PRODUCERS, here.provider)
    before = sum(here.cpu_s().values())
    ingested = bench_ingest(here.url, here.secrets.tenant_key, admin, load, lambda _: None)
    cpu_ms = 1000 * (sum(here.cpu_s().values()) - before) / more
    here.settle()
    return Step(goal, ingested.searchable_per_s, round(cpu_ms, 3), ask_one(here, agent_of(_PROBE), asked, goal))


def _goals(to: int) -> Iterator[int]:
    """10,000, 30,000, 100,000 and so on, and where it ends."""
    goal, times = min(FROM, to), 3.0
    while goal < to:
        yield goal
        goal, times = int(goal * times), 10 / times
    yield to


def report(found: Growth) -> str:
    """For people, in Markdown."""
    rows = [
        (
            f"{step.memories:,}",
            f"{step.ingest_per_s:,.0f}",
            f"{step.cpu_ms:.2f}",
            f"{step.recall.p50:.1f} / {step.recall.p95:.1f} / {step.recall.p99:.1f}",
        )
        for step in found.steps
    ]
    header = ("memories", "memories/s on the way there", "CPU ms for each", "recall, ms: p50 / p95 / p99")
    last = found.steps[-1]
    return (
        f"{table(header, rows)}\n\nWith {last.memories:,} memories {found.share:.0%} of the throughput at "
        f"{found.steps[0].memories:,} are left (target {SHARE:.0%})."
    )


def main() -> None:
    """Grow once, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--to", type=int, default=TO, help="memories at the end")
    parser.add_argument("--asked", type=int, default=100, help="questions at each step")
    parser.add_argument("--latency-ms", type=float, default=50, help="of the provider")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write one JSON document as well")
    given = parser.parse_args()
    found = measure(given.to, given.asked, given.latency_ms, say)
    publish(found, f"{report(found)}\n", given.json)


if __name__ == "__main__":
    main()
