"""Incidents: what is wrong, once for each subject, from when it was seen until it was over; one alone tells of it."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from memlane.contract.health import Incident, Level
from memlane.storage import queries
from memlane.storage.nodes import Node

_SQL = queries.load("incidents")

_OVER = "over"


@dataclass(frozen=True, slots=True)
class Telling:
    """An incident that we are to tell of now: that it goes on, or that it is over.

    Attributes:
        number: its own.
        incident: what it is.
        tries: how often it was tried to tell this, this time among them.
    """

    number: int
    incident: Incident
    tries: int


@dataclass(frozen=True, slots=True)
class Tries:
    """How often telling is tried, and when.

    Attributes:
        tries: how often.
        pause_s: how long nobody else tries after the first time; after the second four times as long, and so on.
        overdue_s: how long it has to be due before we try.
    """

    tries: int
    pause_s: float
    overdue_s: float = 0.0


def open_(control: Node) -> list[Incident]:
    """Those that go on."""
    return [_incident(*row) for row in control.run(_SQL["open"].render())]


def note(control: Node, incident: Incident) -> bool:
    """Something is wrong; whether that is new, or worse than it was, to one caller alone."""
    return bool(control.run(_SQL["note"].render(), _params(incident)))


def seen(control: Node, subjects: Sequence[str]) -> None:
    """These go on."""
    control.run(_SQL["seen"].render(), {"subjects": list(subjects)})


def end(control: Node, subject: str) -> float | None:
    """It is over: how long it lasted, in seconds; None if somebody else has seen that before."""
    rows = control.run(_SQL["end"].render(), {"subject": subject})
    return rows[0][0] if rows else None


def hand_over(control: Node, incident: Incident, *, told: bool) -> None:
    """One that goes on was seen while control was away; if it was told then, it is not told again."""
    known = {"began_at": incident.began_at, "told": incident.level.value if told else None}
    control.run(_SQL["hand_over"].render(), {**_params(incident), **known})


def claim(control: Node, least: Level, tries: Tries) -> Telling | None:
    """An incident that is to be told of now, by us alone; None if there is none.

    Args:
        control: where they are kept.
        least: the level from which they are told.
        tries: how often it is tried, and when.
    """
    levels = [level.value for level in Level if level.rank >= least.rank]
    rows = control.run(_SQL["claim"].render(), {"levels": levels, **asdict(tries)})
    if not rows:
        return None
    number, *fields, tried = rows[0]
    return Telling(number, _incident(*fields), tried)


def told(control: Node, telling: Telling) -> None:
    """It was told."""
    incident = telling.incident
    said = incident.level.value if incident.ended_at is None else _OVER
    control.run(_SQL["told"].render(), {"number": telling.number, "told": said})


def counts(control: Node) -> dict[Level, int]:
    """How many go on, by level."""
    found: dict[str, int] = dict(control.run(_SQL["counts"].render()))
    return {level: found.get(level.value, 0) for level in Level}


def _incident(subject: str, component: str, level: str, title: str, detail: str, *times: object) -> Incident:
    began_at, ended_at = times
    return Incident(subject, component, Level(level), title, detail, began_at, ended_at)  # type: ignore[arg-type]  # a row


def _params(incident: Incident) -> dict[str, object]:
    return {
        "subject": incident.subject,
        "component": incident.component,
        "level": incident.level.value,
        "title": incident.title,
        "detail": incident.detail,
    }
