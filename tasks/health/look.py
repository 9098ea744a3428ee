"""A look at the whole: what was seen is judged part by part, scored, and made into figures for the next looks."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from math import inf

from memlane.config.settings import Settings, WorkerClassName
from memlane.contract.health import Health, band_of
from memlane.storage.reports import Figures
from memlane.tasks.health import broker, database, duties, indexes, money, processes, queue, requests, resources
from memlane.tasks.health.advice import Load, advise, loads_of
from memlane.tasks.health.facts import ControlFacts, Facts, gather
from memlane.tasks.health.rates import Grown, grown, kept, p95_ms
from memlane.tasks.health.scoring import overall
from memlane.tasks.lane import Lane

_PROVIDER = "embed"
"""The operation that asks the provider."""

_REFUSED = "RateRefused"
"""The error with which it refuses for a rate."""


@dataclass(frozen=True, slots=True)
class Look:
    """What came of a look.

    Attributes:
        health: scores, findings, advice.
        figures: for trends.
        totals: for the differences to the next looks.
        with_control: whether control was there.
    """

    health: Health
    figures: Figures
    totals: Mapping[str, float]
    with_control: bool


def look(lane: Lane, periods: Mapping[str, float], *, at_once: bool = False) -> Look:
    """Look at everything now; within 2 s, whatever hangs.

    Args:
        lane: this process's.
        periods: how often each duty is due, in seconds; the sweep, which has no slots, is not among them.
        at_once: whoever looks has just begun, and cannot know whether control was away before; it is taken as it is.
    """
    facts = gather(lane)
    if at_once and facts.control is not None:
        facts = replace(facts, control=replace(facts.control, steady_s=inf))
    return judged(facts, lane.settings, periods)


def judged(facts: Facts, settings: Settings, periods: Mapping[str, float]) -> Look:
    """What facts come to."""
    control, growth = facts.control, _growth(facts.control)
    found = [
        database.judge(facts, settings),
        broker.judge(facts),
        processes.judge(facts, settings),
        duties.judge(facts, periods, settings),
        queue.judge(facts, settings),
        requests.judge(growth, settings),
        resources.judge(facts, growth, settings),
        resources.judge_pools(facts, growth, settings),
        requests.judge_cache(growth, control.cached_percent if control else None, settings),
        indexes.judge(control, settings),
        money.judge(control),
    ]
    score, figures = overall(found), _figures(facts, growth, settings)
    health = Health(
        at=datetime.now(UTC),
        score=score,
        band=band_of(score),
        components=tuple(sorted(found, key=lambda part: part.score)),
        advice=advise((*(control.figures if control else ()), figures), _loads(facts), settings),
        incidents=tuple(control.incidents) if control else (),
        took_ms=round(facts.took_s * 1000),
    )
    return Look(health, figures, kept(control.counts) if control else {}, control is not None)


def _growth(control: ControlFacts | None) -> Grown | None:
    if control is None or control.before is None:
        return None
    return grown(control.before.counts, control.counts, control.before.age_s)


def _loads(facts: Facts) -> list[Load]:
    sizes = {name: node.sizes for name, node in facts.nodes.items() if node.sizes is not None}
    return loads_of(sizes, {name: node.shards for name, node in facts.nodes.items()})


def _figures(facts: Facts, growth: Grown | None, settings: Settings) -> Figures:
    jobs = queue.jobs_of(facts)
    return Figures(
        queue_age_s=queue.ingest_waits_s(facts),
        open_jobs=sum(job.open for job in jobs),
        over_budget=sum(job.over_budget for job in jobs),
        utilisation=_utilisation(facts.control, growth, settings),
        recall_ms=p95_ms(growth, requests.SEARCH, settings.health_least) if growth else None,
        cached_percent=requests.cached_percent(growth, settings) if growth else None,
        refusals=growth.sum("memlane_operation_errors_total", operation=_PROVIDER, error=_REFUSED) if growth else 0.0,
    )


def _utilisation(control: ControlFacts | None, growth: Grown | None, settings: Settings) -> float | None:
    """Which share of their time the ingest workers that live were at work."""
    if control is None or growth is None:
        return None
    name = WorkerClassName.INGEST.value
    living = sum(process.class_ == name and process.silent_s < settings.lost_s for process in control.processes)
    busy_s = growth.sum("memlane_busy_seconds_total", **{"class": name})
    return min(1.0, busy_s / (growth.seconds * living)) if living else None
