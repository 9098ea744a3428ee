"""Incidents, as they are followed in control and told: when one begins or gets worse, and once more when it is over."""

from collections.abc import Callable, Mapping

import structlog

from memlane.beat.telling import PAUSE_S, TRIES, taken, tell_each
from memlane.config.sentry import SentryLevel, report
from memlane.config.settings import Settings
from memlane.contract.health import Health, Incident, Level
from memlane.storage import incidents as kept
from memlane.storage.incidents import Telling, Tries
from memlane.storage.nodes import Node
from memlane.tasks.health.incidents import changes, lasted
from memlane.tasks.lane import Lane

log = structlog.get_logger(__name__)


def follow(lane: Lane, now: Health, before: Health | None) -> None:
    """Note in control what a look changes; whoever notes it first logs it, and tells Sentry."""
    control, settings = lane.cluster.control, lane.settings
    open_ = {incident.subject: incident for incident in kept.open_(control)}
    change = changes(now, before, open_.values())
    for incident in change.begun:
        if kept.note(control, incident):
            begun(settings, incident)
    for subject in change.over:
        _end(control, settings, open_[subject])
    if change.goes_on:
        kept.seen(control, change.goes_on)


def _end(control: Node, settings: Settings, incident: Incident) -> None:
    seconds = kept.end(control, incident.subject)
    if seconds is not None:
        over(settings, incident, seconds)


def begun(settings: Settings, incident: Incident) -> None:
    """Log that an incident has begun or become worse, and tell Sentry."""
    log.warning("incident.begun", about=incident.subject, severity=incident.level, what=incident.title)
    if incident.level.rank >= settings.incident_level.rank:
        report(settings, "incident.begun", {"component": incident.component}, _SENTRYS[incident.level])


def over(settings: Settings, incident: Incident, seconds: float) -> None:
    """Log that an incident is over, and tell Sentry."""
    log.warning("incident.over", about=incident.subject, severity=incident.level, lasted=lasted(seconds))
    if incident.level.rank >= settings.incident_level.rank:
        report(settings, "incident.over", {"component": incident.component}, "info")


def tell_due(lane: Lane, stop: Callable[[], bool], overdue_s: float = 0.0) -> int:
    """Tell the channels of what they were not told yet; how much was told.

    A process without channels leaves it to those that have some; where nobody has any, what is over is never told.

    Args:
        lane: this process's.
        stop: whether the time for it is over.
        overdue_s: only what others have left untold for so long.
    """
    if not lane.settings.alert_urls:
        return 0
    control, settings = lane.cluster.control, lane.settings
    tries = Tries(TRIES, PAUSE_S, overdue_s)

    def told(telling: Telling) -> bool:
        incident = telling.incident
        if not taken(settings.alert_urls, title_of(incident), text_of(incident), telling.tries):
            return False
        kept.told(control, telling)
        return True

    return tell_each(lambda: kept.claim(control, settings.incident_level, tries), told, stop)


def title_of(incident: Incident) -> str:
    """What it is about, in a line."""
    if incident.ended_at is not None:
        return f"memlane: over: {incident.subject}"
    return f"memlane: {incident.level}: {incident.title}"


def text_of(incident: Incident) -> str:
    """What was seen, since when, and what to do; or how long it lasted."""
    since = f"Since {incident.began_at:%Y-%m-%d %H:%M:%S} UTC."
    if incident.ended_at is None:
        return "\n".join((incident.title, since, incident.detail, "All of it: memlane doctor"))
    seconds = (incident.ended_at - incident.began_at).total_seconds()
    return "\n".join((f"It was: {incident.title}", since, f"It lasted {lasted(seconds)}."))


_SENTRYS: Mapping[Level, SentryLevel] = {Level.WARNING: "warning", Level.ERROR: "error", Level.CRITICAL: "fatal"}
"""What Sentry calls the levels."""
