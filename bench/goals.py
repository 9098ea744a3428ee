"""The goals of speed, each with what was reached in one run, and by which measure."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

from memlane.bench.comparison import Comparison
from memlane.bench.figures import Percentiles
from memlane.bench.growth import SHARE
from memlane.bench.growth import TO as GROWN
from memlane.bench.sizes import SizeFigures
from memlane.bench.systems import Row, Way
from memlane.bench.table import table


class Kind(Enum):
    """Which side of a goal is good."""

    AT_LEAST = "at least"
    AT_MOST = "at most"


@dataclass(frozen=True, slots=True)
class Goal:
    """One goal.

    Attributes:
        what: is measured.
        kind: which side is good.
        goal: the figure to reach.
        figure: the one that was reached; missing where it was not measured.
        unit: of both.
        of: what the figure was made of, for people.
    """

    what: str
    kind: Kind
    goal: float
    figure: float | None
    unit: str
    of: str = ""

    @property
    def reached(self) -> bool | None:
        """Whether it was; None: nobody knows."""
        if self.figure is None:
            return None
        return self.figure >= self.goal if self.kind is Kind.AT_LEAST else self.figure <= self.goal

    @property
    def ratio(self) -> float | None:
        """How far it is there: 1 is the goal, more is better."""
        if not self.figure:
            return None
        return self.figure / self.goal if self.kind is Kind.AT_LEAST else self.goal / self.figure


def goals(found: Comparison) -> list[Goal]:
    """All goals, in the order in which they are told."""
    parts = (_ingest, _latency, _recall, _limits)
    return [goal for part in parts for goal in part(found)]


def report(found: Comparison) -> str:
    """A table for people, and how many were reached."""
    every = goals(found)
    rows = [_row(goal) for goal in every]
    known = [goal for goal in every if goal.reached is not None]
    lines = [
        table(("what", "goal", "figure", "of the goal", "reached", "made of"), rows),
        "",
        f"{sum(bool(goal.reached) for goal in known)} of {len(known)} reached"
        + (f", {len(every) - len(known)} not measured." if len(known) < len(every) else "."),
    ]
    return "\n".join(lines)


def _row(goal: Goal) -> Sequence[str]:
    if goal.figure is None:
        return (goal.what, _told(goal, goal.goal), "-", "-", "not measured", goal.of)
    ratio = "-" if goal.ratio is None else f"{goal.ratio:.2f}"
    return (
        goal.what,
        _told(goal, goal.goal),
        _number(goal, goal.figure),
        ratio,
        "yes" if goal.reached else "no",
        goal.of,
    )


def _told(goal: Goal, value: float) -> str:
    return f"{goal.kind.value} {_number(goal, value)}"


def _number(goal: Goal, value: float) -> str:
    if goal.unit == "%":
        return f"{value:.4g} %"
    return f"{value:,.0f} {goal.unit}" if value >= 100 else f"{value:.3g} {goal.unit}"


def _ingest(found: Comparison) -> Iterator[Goal]:
    ours = _way(found, "memlane", lambda way: way.batch == 100)
    beside = (
        ("LangGraph, batch of 100", "langgraph", 20, lambda way: way.batch == 100 and way.side_by_side == 1),
        ("mem0, 32 threads", "mem0", 40, lambda way: way.side_by_side == 32),
        ("Celery by hand, 8 processes", "naive_celery", 30, lambda way: way.side_by_side == 8),
    )
    for name, system, goal, which in beside:
        yield _times(f"batches of 100 against {name}", goal, ours, _way(found, system, which))
    sql = found.raw.sql.per_s if found.raw else None
    share = 100 * ours.searchable_per_s / sql if ours and sql else None
    of = f"{ours.searchable_per_s:,.0f} of {sql:,.0f}/s" if ours and sql else ""
    yield Goal("batches of 100 against our SQL alone", Kind.AT_LEAST, 80, share, "%", of)
    crowd = _way(found, "memlane", lambda way: way.name.startswith("remember, 64"))
    naive = _way(found, "naive_celery", lambda way: way.side_by_side == 8)
    yield _times("single remembers, 64 clients, against Celery by hand", 10, crowd, naive)


def _times(what: str, goal: float, ours: Way | None, theirs: Way | None) -> Goal:
    if ours is None or theirs is None:
        return Goal(what, Kind.AT_LEAST, goal, None, "times")
    ratio = ours.searchable_per_s / theirs.searchable_per_s
    of = f"{ours.searchable_per_s:,.0f} and {theirs.searchable_per_s:,.0f}/s"
    return Goal(what, Kind.AT_LEAST, goal, ratio, "times", of)


def _way(found: Comparison, name: str, which: Callable[[Way], bool]) -> Way | None:
    """The fastest of a system's ways that are meant."""
    ways = [way for system in found.systems if system.name == name for way in system.ways if which(way)]
    return max(ways, key=lambda way: way.searchable_per_s, default=None)


def _latency(found: Comparison) -> Iterator[Goal]:
    accept = found.systems[0].latency.get(Row.STORE_ONE)
    yield from _percentiles("accept of one, idle", accept, 3, 10)
    paced = found.paced
    of = f"{paced.per_s:,.0f}/s, p50 {paced.searchable_ms.p50:.0f} ms" if paced else ""
    p95 = paced.searchable_ms.p95 if paced else None
    yield Goal("time to searchable at half of the maximal load, p95", Kind.AT_MOST, 500, p95, "ms", of)


def _percentiles(what: str, at: Percentiles | None, p50: float | None, p99: float) -> Iterator[Goal]:
    of = f"p95 {at.p95:.1f} ms" if at else ""
    if p50 is not None:
        yield Goal(f"{what}, p50", Kind.AT_MOST, p50, at.p50 if at else None, "ms", of)
    yield Goal(f"{what}, p99", Kind.AT_MOST, p99, at.p99 if at else None, "ms", of)


def _recall(found: Comparison) -> Iterator[Goal]:
    by_size = {size.memories: size for size in found.sizes_asked}
    thousand, ten, hundred = (by_size.get(size) for size in (1_000, 10_000, 100_000))
    yield from _percentiles("recall of 1,000, vector known, HTTP", thousand.warm if thousand else None, 8, 20)
    yield from _percentiles("vectors alone of 10,000", ten.vector.ms if ten else None, None, 40)
    yield _found_of("vectors alone of 10,000", ten, 1.0)
    yield from _percentiles("vectors alone of 100,000, promoted", hundred.vector.ms if hundred else None, None, 20)
    yield _found_of("vectors alone of 100,000, promoted", hundred, 0.98)
    yield from _percentiles("recall of 100,000, vector known, HTTP", hundred.warm if hundred else None, None, 100)
    ratio = thousand.cold.p50 / thousand.again.p50 if thousand else None
    of = f"{thousand.cold.p50:.1f} and {thousand.again.p50:.1f} ms" if thousand else ""
    yield Goal("asked again against cold, 1,000, p50", Kind.AT_LEAST, 10, ratio, "times", of)


def _found_of(what: str, size: SizeFigures | None, least: float) -> Goal:
    figure = 100 * size.vector.recall if size else None
    return Goal(f"{what}: of the ten nearest", Kind.AT_LEAST, 100 * least, figure, "%")


def _limits(found: Comparison) -> Iterator[Goal]:
    planned = found.planning
    slower = max(planned.ordinary_ms.p50, planned.promoted_ms.p50) if planned else None
    of = f"{planned.agents:,} agents, {planned.indexes} indexes in a shard" if planned else ""
    full = planned if planned and planned.agents >= 10_000 else None
    yield Goal("planning with 10,000 agents, p50", Kind.AT_MOST, 1, slower if full else None, "ms", of)
    grown = found.growth
    share = 100 * grown.share if grown and grown.steps[-1].memories >= GROWN else None
    of = f"at {grown.steps[-1].memories:,}: {grown.share:.0%}" if grown else "make bench BENCH=--growth"
    yield Goal("throughput at 1,000,000 against at 10,000", Kind.AT_LEAST, 100 * SHARE, share, "%", of)
    speeds = found.raw.embedders.speeds if found.raw else {}
    torch, minilm = speeds.get("torch"), speeds.get("minilm")
    ratio = minilm.batch_per_s / torch.batch_per_s if torch and minilm else None
    of = f"{minilm.batch_per_s:,.0f} and {torch.batch_per_s:,.0f} texts/s" if torch and minilm else "--torch"
    yield Goal("minilm against sentence-transformers on torch", Kind.AT_LEAST, 2, ratio, "times", of)
