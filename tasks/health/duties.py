"""The duties' health: which were missed, failed, were stopped, or broke off."""

from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from datetime import datetime, timedelta
from math import inf

from memlane.config.celery import QueueName, queue_of
from memlane.config.settings import Settings
from memlane.contract.health import Component, Finding, Severity, component
from memlane.contract.status import DutyStatus
from memlane.storage.jobs import Kind
from memlane.tasks.health.facts import ControlFacts, Facts
from memlane.tasks.health.processes import lost_after
from memlane.tasks.health.queue import jobs_of
from memlane.tasks.pulse import BEAT

_MISSED = 2
"""After how many periods without a run a duty is missed."""

_MARGIN_S = 30.0
"""How much longer a message may wait in its queue."""


def judge(facts: Facts, periods: Mapping[str, float], settings: Settings) -> Component:
    """Whether each runs when it is due, and ends well.

    Args:
        facts: what was seen; what nobody could do while control was away is not missed.
        periods: how often each is due, in seconds; the sweep has no slots, and is not among those that run.
        settings: for after how long without a word a beat is lost.
    """
    control = facts.control
    if control is None:
        return component("duties", (), known=False)
    since = _sent_since(control, lost_after(BEAT, settings))
    runs = {run.name: run for run in control.duties}
    taken = {name for name, run in runs.items() if name in periods and _runs(run)}
    building = any(job.kind == Kind.OPTIMIZE and job.leased for job in jobs_of(facts))
    findings: list[Finding] = []
    for name, every_s in periods.items():
        run = runs.get(name)
        missed = _missed(name, run, every_s, control.now, since)
        if missed is None:
            findings += _ended(run) if run is not None else ()
        elif not _held_up(name, taken, building):
            findings.append(missed)
    return component("duties", findings)


def _sent_since(control: ControlFacts, lost_s: float) -> datetime | None:
    """Since when beats have sent, and control could note that somebody runs what they send; None: no beat lives."""
    since = min((p.started_at for p in control.processes if p.class_ == BEAT and p.silent_s < lost_s), default=None)
    if since is not None and control.steady_s < inf:
        since = max(since, control.now - timedelta(seconds=control.steady_s))
    return since


def _runs(run: DutyStatus) -> bool:
    """Whether it goes on, within its slice."""
    return run.done_at is None and not run.broken_off


def _held_up(name: str, taken: AbstractSet[str], building: bool) -> bool:
    """Whether the process that should run it is at work on something else that may take long: it waits its turn."""
    queue = queue_of(f"beat.{name}")
    return queue == QueueName.OPTIMIZE and (building or any(queue_of(f"beat.{one}") == queue for one in taken - {name}))


def _missed(
    name: str, run: DutyStatus | None, every_s: float, now: datetime, sent_since: datetime | None
) -> Finding | None:
    """Where no beat lives nobody sends for it: that is said of the beats."""
    if sent_since is None:
        return None
    ran = run is not None and run.claimed_at <= now  # else it is from before the clock was set back
    since = max(run.claimed_at, sent_since) if run is not None and ran else sent_since
    if now - since <= timedelta(seconds=_MISSED * every_s + _MARGIN_S):
        return None
    reason = f"has not run for {(now - since).total_seconds():.0f} s, and is due every {every_s:g} s"
    advice = "memlane status shows its last run; the worker that should run it is down, or busy with another duty"
    return Finding(f"duty {name}", Severity.ERROR, reason, advice)


def _ended(run: DutyStatus) -> Iterator[Finding]:
    subject = f"duty {run.name}"
    if run.broken_off:
        advice = "the next slot tries again; if it breaks off again, the log of its worker says what ended it"
        yield Finding(subject, Severity.WARNING, "broke off: its process hangs or was killed", advice)
    elif run.outcome == "stopped":
        advice = "the next slot goes on; if it is stopped again, the log shows where it hung"
        yield Finding(subject, Severity.WARNING, run.detail or "did not end with its slice", advice)
    elif run.outcome == "failed":
        advice = "the next slot tries again; the log of its worker has the error"
        yield Finding(subject, Severity.WARNING, f"failed: {run.detail}", advice)
