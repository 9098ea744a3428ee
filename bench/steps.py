"""Steps: what an operation spends its time on, run after run, as traces tell it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median
from time import perf_counter
from typing import Self

from memlane.bench.naming import words_of
from memlane.storage.traced import ASIDE, Span, Trace

_BETWEEN = "own work, in Python"


@dataclass(frozen=True, slots=True)
class Step:
    """A step of an operation.

    Attributes:
        stage: the part of the operation that it belongs to.
        step: what is done.
        median_ms: how long it takes; missing where only the first run had it.
        p95_ms: how long at most in 19 of 20 runs.
        first_ms: how long it took in the first run, which counts in neither: connections are made, plans, caches.
        round_trips: how often a server is waited for in a run.
        runs: in how many runs there was such a step.
        where: the node.
    """

    stage: str
    step: str
    median_ms: float | None
    p95_ms: float | None
    first_ms: float | None
    round_trips: int
    runs: int
    where: str = ""


@dataclass(frozen=True, slots=True)
class StatementPlan:
    """What Postgres did for a statement; `inside` are functions whose own statements EXPLAIN does not show."""

    step: str
    statement: str
    plan: str
    inside: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Profile:
    """Where an operation spends its time.

    Attributes:
        operation: remember or recall.
        agent: whose memory it is.
        shard: where that lives.
        runs: how many there were, beside the first.
        steps: in their order.
        median_ms: of the whole.
        p95_ms: of the whole.
        first_ms: of the whole, in the first run.
        round_trips: of the whole, at most.
        notes: what has to be known to read it.
        plans: of the statements, where they were asked for.
    """

    operation: str
    agent: str
    shard: int
    runs: int
    steps: Sequence[Step]
    median_ms: float
    p95_ms: float
    first_ms: float
    round_trips: int
    notes: Sequence[str] = ()
    plans: Sequence[StatementPlan] = ()


@dataclass(frozen=True, slots=True)
class _Key:
    stage: str
    step: str
    where: str


@dataclass
class Runs:
    """Runs of an operation, each with what it spent on which step."""

    trace: Trace
    _found: list[dict[_Key, tuple[float, int]]] = field(default_factory=list)

    def begin(self) -> Self:
        """A run begins; what was noted before is none of it."""
        self.trace.take()
        self._found.append({})
        return self

    def withdraw(self) -> None:
        """The run that goes on is none."""
        self._found.pop()

    def stage(self, name: str, begun: float, *, after: Callable[[str], str | None] = lambda _step: None) -> None:
        """A part of a run is over.

        Args:
            name: of the part.
            begun: when it began, by `perf_counter`.
            after: what our own work after a step is called, where it is worth a step of its own.
        """
        ended = perf_counter()
        spans = [span for span in self.trace.take() if span.begun >= begun]
        rest_s = ended - begun
        for span, next_begun in zip(spans, [*(span.begun for span in spans[1:]), ended], strict=True):
            words, own_s = _step_of(span), _own_s(span, spans)
            rest_s -= own_s
            if words == ASIDE:
                continue
            self._add(_Key(name, words, span.node), own_s, span.round_trips)
            own = after(words)
            if own is not None:
                self._add(_Key(name, own, ""), next_begun - span.ended, 0)
                rest_s -= next_begun - span.ended
        self._add(_Key(name, _BETWEEN, ""), max(0.0, rest_s), 0)

    def _add(self, key: _Key, seconds: float, round_trips: int) -> None:
        run = self._found[-1]
        before_s, before = run.get(key, (0.0, 0))
        run[key] = before_s + seconds, before + round_trips

    def steps(self) -> list[Step]:
        """The steps of all runs, in their order."""
        keys = dict.fromkeys(key for run in [*self._found[1:], *self._found[:1]] for key in run)
        stages = list(dict.fromkeys(key.stage for run in self._found for key in run))
        return [self._step(key) for stage in stages for key in keys if key.stage == stage]

    def _step(self, key: _Key) -> Step:
        first, *others = self._found
        found = [run[key] for run in others if key in run]
        times = [seconds * 1000 for seconds, _ in found]
        return Step(
            key.stage,
            key.step,
            round(median(times), 3) if times else None,
            round(p95(times), 3) if times else None,
            round(first[key][0] * 1000, 3) if key in first else None,
            max((trips for _, trips in found or [first[key]]), default=0),
            len(found),
            key.where,
        )

    def totals_ms(self) -> list[float]:
        """How long each run took as a whole; the first is the first."""
        return [sum(seconds for seconds, _ in run.values()) * 1000 for run in self._found]

    def trips(self) -> int:
        """How often servers are waited for in a run."""
        return max(sum(trips for _, trips in run.values()) for run in self._found[1:] or self._found)


def p95(values: Sequence[float]) -> float:
    """The value that 19 of 20 do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * 95 // 100) - 1)]


def plans_of(trace: Trace) -> list[StatementPlan]:
    """The plans that a trace was asked for, each statement's once."""
    found = {plan.statement: plan for plan in trace.plans}
    return [
        StatementPlan(words_of(statement), statement.decode(), plan.plan, plan.inside)
        for statement, plan in found.items()
    ]


def _own_s(span: Span, spans: Sequence[Span]) -> float:
    """How long a span was, without those that are in it."""
    inside = [one for one in spans if one is not span and span.begun <= one.begun and one.ended <= span.ended]
    return span.ended - span.begun - sum(one.ended - one.begun for one in inside)


def _step_of(span: Span) -> str:
    return span.name or words_of(span.statements[-1] if span.statements else b"nothing")
