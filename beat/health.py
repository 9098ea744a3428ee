"""Health: looks at the whole, keeps what came of it, and notes what is wrong; `beat/tell.py` tells it."""

from collections.abc import Mapping

import structlog

from memlane.beat import incidents
from memlane.contract.health import Health
from memlane.storage import processes, reports
from memlane.tasks.health.look import Look, look
from memlane.tasks.health.processes import forgettable
from memlane.tasks.lane import Lane

log = structlog.get_logger(__name__)

_IN_A_ROW = 2.5
"""Looks are in a row that are not further apart than so many periods."""


def health(lane: Lane, periods: Mapping[str, float]) -> str:
    """Look and keep; and let go of processes that are long lost.

    Args:
        lane: this process's.
        periods: how often each duty is due, in seconds.
    """
    found = look(lane, periods)
    keep(lane, found)
    control, lost_s = lane.cluster.control, lane.settings.lost_s
    if control.steady_s >= lost_s + lane.settings.pulse_s:
        processes.forget(control, forgettable(processes.living(control), lane.settings), lost_s)
    processes.drop_gone(control)
    return f"score {found.health.score}"


def keep(lane: Lane, found: Look) -> None:
    """Keep a look, and follow what it changes."""
    control = lane.cluster.control
    before = _before(lane)
    processes.set_back(control)
    incidents.follow(lane, found.health, before)
    reports.add(control, found.health, found.figures, found.totals)


def _before(lane: Lane) -> Health | None:
    """The look before, if it was lately."""
    last = reports.newest(lane.cluster.control)
    recent = last is not None and last.age_s <= _IN_A_ROW * lane.settings.health_every_s
    return last.health if last is not None and recent else None
