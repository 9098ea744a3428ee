"""Duties, as they are run: once per slot of time, whichever beat sent for them, within their slice, and noted."""

from contextlib import suppress

import structlog
from celery.exceptions import SoftTimeLimitExceeded

from memlane.beat.duties import DUTIES, periods
from memlane.beat.duty import Duty, Slice
from memlane.config.celery import WORKER_CLASSES
from memlane.config.sentry import checked_in
from memlane.config.settings import WorkerClassName
from memlane.errors import MemlaneError, Misconfigured, Unavailable
from memlane.storage import ticks
from memlane.storage.ticks import Outcome, Tick
from memlane.tasks.hooks import Operation
from memlane.tasks.lane import Lane

log = structlog.get_logger(__name__)

GRACE_S = 5.0
"""How long after its slice a duty is interrupted that has not ended by itself."""

KILL_S = 30.0
"""How long after its slice its process is ended, where it could not be interrupted."""

_LONGEST_S = WORKER_CLASSES[WorkerClassName.UPKEEP].time_limit_s


def run_once(lane: Lane, holder: str, name: str) -> None:
    """Run a duty, unless somebody else does or did in this slot.

    Raises:
        Exception: whatever the duty raises; it is noted, and the next slot tries again.
    """
    duty, every_s = DUTIES[name], periods(lane.settings).get(name)
    if every_s is None:
        return  # it is switched off here
    tick = ticks.claim(lane.cluster.control, name, every_s, duty.slice_s, holder)
    if tick is not None:
        checks = checked_in(lane.settings, name, int(every_s), _LONGEST_S)
        with suppress(SoftTimeLimitExceeded), lane.hooks.around(Operation(f"beat.{name}")), checks:
            _run(lane, tick, duty)


def _run(lane: Lane, tick: Tick, duty: Duty) -> None:
    slice_ = Slice(duty.slice_s)
    try:
        detail = duty.work(lane, slice_)
    except SoftTimeLimitExceeded:
        log.exception("duty.stopped", duty=tick.name, after_s=duty.slice_s)  # it shows where it hung
        _finish(lane, tick, Outcome.STOPPED, f"did not end within {duty.slice_s:g} s")
        raise
    except (Unavailable, Misconfigured) as error:
        _finish(lane, tick, Outcome.FAILED, str(error))
        raise
    except Exception as error:
        _finish(lane, tick, Outcome.FAILED, type(error).__name__)  # its words may quote what belongs in no log
        raise
    else:
        log.info("duty.done", duty=tick.name, came_to=detail, left_s=round(slice_.left_s, 1))
        _finish(lane, tick, Outcome.DONE, detail)


def _finish(lane: Lane, tick: Tick, outcome: Outcome, detail: str) -> None:
    try:
        ticks.finish(lane.cluster.control, tick, outcome, detail)
        ticks.drop_old(lane.cluster.control)
    except MemlaneError as error:
        log.warning("duty.not_noted", duty=tick.name, outcome=outcome, why=str(error))
