"""Incidents: from looks at the whole to what begins, gets worse, and is over. Blips are damped.

What was waited for already, such as a refused connection or a lost process, begins at the first look that sees it.
Anything else begins at the second look in a row, at the milder of both levels. It is over after two looks in a row that
could look at its component and found no more than a notice. A level that falls is not told: the incident goes on.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from memlane.contract.health import LEVEL_OF, Finding, Health, Incident, Level, Severity


@dataclass(frozen=True, slots=True)
class Changes:
    """What a look changes.

    Attributes:
        begun: what is new, or worse than it was.
        over: the subjects of those that are over.
        goes_on: the subjects of those that are as they were.
    """

    begun: Sequence[Incident] = ()
    over: Sequence[str] = ()
    goes_on: Sequence[str] = ()


def changes(now: Health, before: Health | None, open_: Iterable[Incident]) -> Changes:
    """What a look changes.

    Args:
        now: the look.
        before: the one before, if that was lately.
        open_: the incidents that go on.
    """
    going = {incident.subject: incident for incident in open_}
    bad, bad_before = _bad(now), _bad(before) if before is not None else {}
    begun, goes_on = [], []
    for subject, found in bad.items():
        level, known = _confirmed(found, bad_before.get(subject)), going.get(subject)
        if level is not None and (known is None or level.rank > known.level.rank):
            begun.append(_incident(found, level, known.began_at if known else now.at))
        elif known is not None:
            goes_on.append(subject)
    over = [
        subject
        for subject, incident in going.items()
        if subject not in bad and _well(incident, now) and before is not None and _well(incident, before)
    ]
    return Changes(tuple(begun), tuple(over), tuple(goes_on))


def lasted(seconds: float) -> str:
    """How long something lasted, for people."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


@dataclass(frozen=True, slots=True)
class _Bad:
    """What is worth an incident about one subject: its component, and its findings, the worst first."""

    component: str
    findings: Sequence[Finding]


def _confirmed(now: _Bad, before: _Bad | None) -> Level | None:
    """The level that is beyond doubt: that of what is sure, or the milder of two looks."""
    severities = [found.severity for found in now.findings if found.sure]
    if before is not None:
        severities.append(min(now.findings[0].severity, before.findings[0].severity, key=_takes))
    return LEVEL_OF[max(severities, key=_takes)] if severities else None


def _takes(severity: Severity) -> int:
    return severity.takes


def _bad(health: Health) -> Mapping[str, _Bad]:
    """What is worth an incident, by its subject."""
    found: dict[str, _Bad] = {}
    for part in health.components:
        for one in part.findings:  # the worst first
            if one.severity in LEVEL_OF:
                before = found[one.subject].findings if one.subject in found else ()
                found[one.subject] = _Bad(part.name, (*before, one))
    return found


def _well(incident: Incident, health: Health) -> bool:
    """Whether a look could see that an incident's subject is well."""
    known = all(part.known for part in health.components if part.name == incident.component)
    return known and incident.subject not in _bad(health)


def _incident(bad: _Bad, level: Level, began_at: datetime) -> Incident:
    found = bad.findings[0]
    title, detail = f"{found.subject}: {found.reason}", f"What to do: {found.advice}"
    return Incident(found.subject, bad.component, level, title, detail, began_at)
