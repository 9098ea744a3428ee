"""Duties: what is done once per slot of time, whichever beat sent for it; Sentry is told where it really runs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from memlane.beat.analyze import analyze
from memlane.beat.budgets import budgets
from memlane.beat.expire import expire
from memlane.beat.schedule import periods
from memlane.config.celery import WORKER_CLASSES
from memlane.config.sentry import checked_in
from memlane.config.settings import Settings, WorkerClassName
from memlane.storage import ticks
from memlane.tasks.lane import Lane

_WORK = {"analyze": analyze, "expire": expire, "budgets": budgets}

_LONGEST_S = WORKER_CLASSES[WorkerClassName.UPKEEP].time_limit_s


@dataclass(frozen=True, slots=True)
class Duty:
    """Something that is due regularly.

    Attributes:
        work: does it.
        every_s: how long a slot is, in seconds.
    """

    work: Callable[[Lane], None]
    every_s: int


def duties(settings: Settings) -> Mapping[str, Duty]:
    """All duties that have slots, by name; the sweep is idempotent and needs none."""
    every_s = periods(settings)
    return {name: Duty(work, int(every_s[name])) for name, work in _WORK.items()}


def run_once(lane: Lane, holder: str, name: str) -> None:
    """Run a duty, unless somebody else does or did in this slot."""
    duty = duties(lane.settings)[name]
    with ticks.once_per_slot(lane.cluster.control, name, duty.every_s, holder) as mine:
        if mine:
            with checked_in(lane.settings, name, duty.every_s, _LONGEST_S):
                duty.work(lane)
