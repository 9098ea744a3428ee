"""Auto-tune: turns one knob at a time, sees whether that made things better, and takes it back if not."""

import structlog

from memlane.beat.duty import Slice
from memlane.contract.upkeep import Knob, Verdict
from memlane.errors import MemlaneError
from memlane.storage import jobs, knobs, processes, progress
from memlane.storage.knobs import Trial
from memlane.tasks import canary, tuning
from memlane.tasks.lane import Lane
from memlane.tasks.tuning import RATE, Canary, Window

log = structlog.get_logger(__name__)

_DUTY = "tune"

_INGEST = frozenset({"remember", "embed", "text_embed"})
"""The kinds of jobs that count."""


def tune(lane: Lane, slice_: Slice) -> str:
    """Decide what is on trial, or else try something; a run that broke off is gone on with by the next."""
    control, settings = lane.cluster.control, lane.settings
    trial = knobs.trial(control)
    window = _window(lane, trial)
    rate = window.rate if window is not None else None
    ef_search = next(one.value for one in knobs.status(control, settings) if one.knob is Knob.EF_SEARCH)
    sung = canary.sing(lane, ef_search, lambda: slice_.over) if trial is None or trial.metric != RATE else None
    return _try(lane, rate, sung) if trial is None else _decide(lane, trial, rate, sung)


def _decide(lane: Lane, trial: Trial, rate: float | None, sung: Canary | None) -> str:
    decision = tuning.decide(trial, rate, sung)
    of = f"{trial.knob} {trial.before} -> {trial.after}"
    if decision.verdict is Verdict.TRIAL:
        return f"{of} is on trial, and could not be measured"
    if knobs.decide(lane.cluster.control, trial, decision.verdict, decision.metric):
        log.info("tune.decided", knob=trial.knob, after=trial.after, verdict=decision.verdict, metric=decision.metric)
    measured = "" if decision.metric is None else f": {trial.metric} {trial.metric_before:.3g} -> {decision.metric:.3g}"
    return f"{of} is {decision.verdict}{measured}"


def _try(lane: Lane, rate: float | None, sung: Canary | None) -> str:
    control = lane.cluster.control
    latest = next((one.knob for one in knobs.history(control, 1)), None)
    turn = 1 if latest is Knob.CLAIM_SIZE else 0
    wanted = tuning.next_turn(knobs.status(control, lane.settings), rate, sung, knobs.in_vain(control), turn)
    if wanted is None:
        return "nothing is known" if rate is None and sung is None else "nothing to try"
    if not knobs.begin_trial(control, wanted):
        return f"{wanted.knob} was set by somebody else"
    _keep(lane)  # what is measured begins now
    log.info("tune.tried", knob=wanted.knob, before=wanted.before, after=wanted.after, why=wanted.why)
    return f"{wanted.knob} {wanted.before} -> {wanted.after} is on trial: {wanted.why}"


def _window(lane: Lane, trial: Trial | None) -> Window | None:
    """What was done since the last run; None where that began before the trial, or nobody knows."""
    control = lane.cluster.control
    found = progress.place(control, _DUTY, "window")
    now = _keep(lane)
    if found is None or now is None or (trial is not None and found[1] > trial.ago_s):
        return None
    before, seconds = found
    jobs_, busy_s = now["jobs"] - before["jobs"], now["busy_s"] - before["busy_s"]
    return Window(seconds, jobs_, busy_s, int(before["backlog"]), int(now["backlog"]))


def _keep(lane: Lane) -> dict[str, float] | None:
    """Note how things are now; None where a shard does not answer, and so nothing is known."""
    counts = processes.counts(lane.cluster.control)
    try:
        backlog = sum(
            one.open - one.over_budget
            for shard in lane.cluster.shards()
            for one in jobs.backlog(shard)
            if one.kind in _INGEST
        )
    except MemlaneError as error:
        log.warning("tune.backlog_unknown", why=str(error))
        return None
    now = {"jobs": tuning.finished(counts), "busy_s": tuning.busy_s(counts), "backlog": float(backlog)}
    progress.keep(lane.cluster.control, _DUTY, "window", now)
    return now
