"""Auto-tune's decisions, without the doing: one change at a time, kept if it made things better, else taken back."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from memlane.contract.upkeep import Knob, KnobStatus, Verdict
from memlane.storage.knobs import Trial

LEAST_JOBS = 500
"""With fewer jobs in a window, its rate says nothing."""

SHORTEST_S, LONGEST_S = 30.0, 1800.0
"""How long a window may be: a shorter one says nothing, a longer one says what was long ago."""

BETTER = 1.03
"""So many times as fast is better; the rest is noise."""

FORGOTTEN_S = 3600.0
"""A turn that could not be measured for so long is taken back."""

RECALL_LOW, RECALL_HIGH = 0.95, 0.99
"""Recall@10 below which more of an index is looked at, and above which it may be less."""

RECALL_FINE = 0.97
"""Recall@10 at which less is kept; above the low mark, so that it is not turned to and fro."""

SLOW_MS = 10.0
"""How long a look into an index may take before less is tried."""

RATE, RECALL = "jobs a second", "recall@10"
"""What is measured."""


@dataclass(frozen=True, slots=True)
class Window:
    """What workers did between two runs.

    Attributes:
        seconds: how long it was.
        jobs: that were finished in it.
        busy_s: how long workers were at work in it, all together.
        backlog_before: jobs that waited when it began.
        backlog_now: jobs that wait now that it is over.
    """

    seconds: float
    jobs: float
    busy_s: float
    backlog_before: int
    backlog_now: int

    @property
    def rate(self) -> float | None:
        """Jobs a second while there was a backlog; None if there was none all along, so that nothing is known."""
        if not SHORTEST_S <= self.seconds <= LONGEST_S or self.jobs < LEAST_JOBS:
            return None
        if min(self.backlog_before, self.backlog_now) < LEAST_JOBS or self.busy_s < self.seconds / 2:
            return None
        return self.jobs / self.seconds


@dataclass(frozen=True, slots=True)
class Canary:
    """How well indexes answer: recall@10 against exact search, in the mean, and how long a look takes, the median."""

    recall: float
    ms: float
    asked: int


Turn: TypeAlias = Trial
"""A turn that is to be put on trial."""

InVain: TypeAlias = Collection[tuple[Knob, int]]
"""Where knobs were turned to and taken back from."""


def next_turn(
    knobs: Sequence[KnobStatus],
    rate: float | None,
    canary: Canary | None,
    in_vain: InVain,
    turn: int,
) -> Turn | None:
    """What to try next; None: nothing, or nothing is known.

    Args:
        knobs: how they stand.
        rate: jobs a second while there was a backlog.
        canary: how well the indexes answer.
        in_vain: what was tried and taken back lately.
        turn: counts the tries, so that the knobs take turns.
    """
    by = {one.knob: one for one in knobs if one.by != "hand"}
    if (ef := by.get(Knob.EF_SEARCH)) and (found := _for_recall(ef, canary, in_vain)):
        return found
    if rate is None:
        return None
    order = [Knob.CLAIM_SIZE, Knob.DRAINS_PER_SHARD]
    for knob in order[turn % 2 :] + order[: turn % 2]:
        if knob in by and (found := _for_rate(by[knob], rate, in_vain)):
            return found
    return None


def _for_rate(one: KnobStatus, rate: float, in_vain: InVain) -> Turn | None:
    doubles = one.knob is Knob.CLAIM_SIZE
    for wanted in (one.value * 2, one.value // 2) if doubles else (one.value + 1, one.value - 1):
        if found := _turn(one, wanted, in_vain, ("more jobs a second", RATE, rate)):
            return found
    return None


def _for_recall(one: KnobStatus, canary: Canary | None, in_vain: InVain) -> Turn | None:
    if canary is None:
        return None
    if canary.recall < RECALL_LOW:
        why = f"recall@10 of {canary.asked} questions is {canary.recall:.3f}"
        return _turn(one, one.value * 3 // 2 + 1, (), (why, RECALL, canary.recall))
    if canary.recall > RECALL_HIGH and canary.ms > SLOW_MS:
        why = f"a look into an index takes {canary.ms:.1f} ms, and recall@10 is {canary.recall:.3f}"
        return _turn(one, one.value * 2 // 3, in_vain, (why, RECALL, canary.recall))
    return None


def _turn(one: KnobStatus, wanted: int, in_vain: InVain, what: tuple[str, str, float]) -> Turn | None:
    """A turn within bounds, unless it leads nowhere or was in vain lately."""
    after = min(max(wanted, one.least), one.most)
    on_the_way = (after - one.value) * (wanted - one.value) > 0
    if not on_the_way or (one.knob, after) in in_vain:
        return None
    why, metric, measured = what
    return Turn(0, one.knob, one.value, after, why, metric, measured, 0.0)


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of a trial, and what was measured for that."""

    verdict: Verdict
    metric: float | None


def decide(trial: Trial, rate: float | None, canary: Canary | None) -> Decision:
    """What becomes of a trial by what was measured since: it goes on while nothing could be, but not for ever."""
    measured = rate if trial.metric == RATE else None if canary is None else canary.recall
    if measured is None:
        return Decision(Verdict.TAKEN_BACK if trial.ago_s > FORGOTTEN_S else Verdict.TRIAL, None)
    return Decision(Verdict.KEPT if _better(trial, measured) else Verdict.TAKEN_BACK, measured)


def _better(trial: Trial, measured: float) -> bool:
    if trial.metric == RATE:
        return measured >= BETTER * trial.metric_before
    if trial.after > trial.before:
        return measured >= RECALL_LOW or measured > trial.metric_before
    return measured >= RECALL_FINE


def finished(counts: Mapping[str, float]) -> float:
    """The jobs that workers have finished that have to do with memories and texts, of the counts of all processes."""
    wanted = {("remember", "stored"), ("embed", "searchable"), ("text_embed", "searchable")}
    series = {f'memlane_jobs_finished_total{{kind="{kind}",outcome="{outcome}"}}' for kind, outcome in wanted}
    return sum(count for name, count in counts.items() if name in series)


def busy_s(counts: Mapping[str, float]) -> float:
    """How long those were at work that finish them."""
    return counts.get('memlane_busy_seconds_total{class="ingest"}', 0.0)
