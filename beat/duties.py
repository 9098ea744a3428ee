"""All duties that are done once per slot of time; the sweep is idempotent and has no slots."""

from collections.abc import Mapping

from memlane.beat.budgets import budgets
from memlane.beat.duty import Duty, Slice
from memlane.beat.expire import expire
from memlane.beat.health import health
from memlane.beat.moments import moments
from memlane.beat.optimize import optimize
from memlane.beat.query_patterns import query_patterns
from memlane.beat.retention import retention
from memlane.beat.tell import tell
from memlane.beat.tune import tune
from memlane.beat.vacuum import vacuum
from memlane.beat.warm_cache import warm_cache
from memlane.config.settings import Settings
from memlane.tasks.lane import Lane


def _health(lane: Lane, _slice: Slice) -> str:
    """It knows of all the duties, and so cannot be one of those that they are made of."""
    return health(lane, due(lane.settings))


DUTIES: Mapping[str, Duty] = {
    "vacuum": Duty(vacuum, lambda settings: settings.vacuum_every_s, 540.0),
    "optimize": Duty(optimize, lambda settings: settings.optimize_every_s, 50.0),
    "tune": Duty(tune, lambda settings: settings.tune_every_s if settings.autotunes else None, 50.0),
    "retention": Duty(retention, lambda settings: settings.retention_every_s, 50.0),
    "expire": Duty(expire, lambda settings: settings.expire_every_s, 50.0),
    "budgets": Duty(budgets, lambda settings: settings.budgets_every_s, 50.0),
    "health": Duty(_health, lambda settings: settings.health_every_s, 15.0),
    "tell": Duty(tell, lambda settings: settings.health_every_s, 25.0),
    "moments": Duty(moments, lambda settings: settings.moments_every_s, 50.0),
    "query_patterns": Duty(query_patterns, lambda settings: settings.patterns_every_s, 50.0),
    "warm_cache": Duty(warm_cache, lambda settings: settings.warm_every_s if settings.warm_cache else None, 50.0),
}
"""By name; the message that beat sends for one is `beat.NAME`, config/celery.py says to which queue."""

SWEEP = "sweep"

FORMER = ("analyze",)
"""Duties that there are no more: an older version's beat goes on sending for them, and nothing is done."""


def periods(settings: Settings) -> dict[str, float]:
    """How often the sweep and each duty are due, in seconds; those that are switched off are left out."""
    return {SWEEP: settings.sweep_every_s, **due(settings)}


def due(settings: Settings) -> dict[str, float]:
    """How often each duty is due, in seconds; those that are switched off are left out."""
    found = {name: duty.every(settings) for name, duty in DUTIES.items()}
    return {name: float(every) for name, every in found.items() if every is not None}
