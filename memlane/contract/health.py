"""How the system does: a score for each component and for the whole, what is wrong, and what to do next.

A component's score is 100 less what its worst finding takes: 20 a notice, 40 a warning, 60 an error, all 100 what is
critical; and one less for each further finding, nine at most, so that these never change its band. The whole is as good
as its worst component, each by its weight: 100 less the most of weight * (100 - score).

    90  good        nothing is wrong
    70  fair        somebody should know (notice)
    50  strained    an incident of level warning
    30  failing     an incident of level error
     0  critical    an incident of level critical
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Severity(StrEnum):
    """How bad a finding is."""

    NOTICE = "notice"
    WARNING = "warning"
    ERROR = "error"
    CRITICAL = "critical"

    @property
    def takes(self) -> int:
        """What it takes from the score of its component; more is worse."""
        return _TAKES[self]


_TAKES = {Severity.NOTICE: 20, Severity.WARNING: 40, Severity.ERROR: 60, Severity.CRITICAL: 100}


class Level(StrEnum):
    """How bad an incident is; a notice is none."""

    WARNING = "warning"
    ERROR = "error"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        """Higher is worse."""
        return list(Level).index(self)


LEVEL_OF = {Severity.WARNING: Level.WARNING, Severity.ERROR: Level.ERROR, Severity.CRITICAL: Level.CRITICAL}
"""The level of the incident that a finding opens; a notice opens none."""


class Band(StrEnum):
    """What a score means."""

    GOOD = "good"
    FAIR = "fair"
    STRAINED = "strained"
    FAILING = "failing"
    CRITICAL = "critical"


BANDS = ((90, Band.GOOD), (70, Band.FAIR), (50, Band.STRAINED), (30, Band.FAILING), (0, Band.CRITICAL))
"""The least score of each band, the best first."""

_FURTHER = 9
"""The most that further findings take; one more would change the band."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong, or that somebody should know.

    Attributes:
        subject: what it is about: `node node-2`, `duty expire`, `workers ingest`, `broker`.
        severity: how bad it is.
        reason: what was seen, in a line.
        advice: what to do next, with a command where there is one.
        sure: that it is no blip was waited for already: an incident begins at once, not at the second look.
    """

    subject: str
    severity: Severity
    reason: str
    advice: str
    sure: bool = False


@dataclass(frozen=True, slots=True)
class Component:
    """A part of the system.

    Attributes:
        name: `database`, `broker`, `processes` and so on.
        score: 0 to 100.
        band: what the score means.
        findings: what is wrong, the worst first.
        known: whether it could be looked at; if not, what was wrong with it before still counts.
    """

    name: str
    score: int
    band: Band
    findings: Sequence[Finding] = ()
    known: bool = True


class Scaling(StrEnum):
    """What would help against a trend; nobody does it by itself."""

    ADD_WORKERS = "add_workers"
    ADD_NODE = "add_node"
    REBALANCE = "rebalance"
    RAISE_LIMIT = "raise_limit"


@dataclass(frozen=True, slots=True)
class Advice:
    """Something that would help, and why."""

    advice: Scaling
    reason: str


@dataclass(frozen=True, slots=True)
class Incident:
    """Something that is wrong, from when it was seen until it was over.

    Attributes:
        subject: what it is about.
        component: the part of the system that it belongs to.
        level: how bad it was at worst.
        title: what it is, in a line.
        detail: what was seen, and what to do next.
        began_at: when it was seen first.
        ended_at: when it was over; missing while it goes on.
    """

    subject: str
    component: str
    level: Level
    title: str
    detail: str
    began_at: datetime
    ended_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Health:
    """The whole at one moment.

    Attributes:
        at: when it was looked at, by the clock of whoever looked.
        score: 0 to 100.
        band: what the score means.
        components: its parts, the worst first.
        advice: what would help against a trend.
        incidents: those that go on, as control knows them; none while it does not answer.
        took_ms: how long the look took, in milliseconds.
    """

    at: datetime
    score: int
    band: Band
    components: Sequence[Component]
    advice: Sequence[Advice] = ()
    incidents: Sequence[Incident] = ()
    took_ms: int = 0


@dataclass(frozen=True, slots=True)
class HealthSummary:
    """The whole in a few lines: its score, what is wrong, what would help."""

    score: int
    band: Band
    reasons: Sequence[str] = ()
    advice: Sequence[Advice] = ()


def band_of(score: int) -> Band:
    """What a score means."""
    return next(band for least, band in BANDS if score >= least)


def component(name: str, findings: Iterable[Finding], *, known: bool = True) -> Component:
    """A component with the score that its findings leave it."""
    found = sorted(findings, key=lambda finding: (-finding.severity.takes, finding.subject))
    worst = found[0].severity.takes if found else 0
    score = max(0, 100 - worst - min(_FURTHER, max(0, len(found) - 1)))
    return Component(name, score, band_of(score), tuple(found), known)


def summary(health: Health) -> HealthSummary:
    """The few lines of a look at the whole."""
    reasons = [f"{found.subject}: {found.reason}" for part in health.components for found in part.findings]
    return HealthSummary(health.score, health.band, tuple(reasons), health.advice)
