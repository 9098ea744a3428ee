"""Reports: what came of the last looks at the whole, kept for a week, and what trends and differences are seen in."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from psycopg.types.json import Json, Jsonb

from memlane.contract import wire
from memlane.contract.health import Health
from memlane.storage import queries
from memlane.storage.nodes import Node

_SQL = queries.load("reports")


_AT_ONCE_S = 1.0
"""So far ahead a look may lie that is written while somebody asks for it."""


@dataclass(frozen=True, slots=True)
class Figures:
    """How much there was to do, and how fast it went, at one moment.

    Attributes:
        queue_age_s: how long the oldest job that is due, and that ingest workers do, had waited.
        open_jobs: how many jobs waited or were worked on.
        over_budget: how many of them waited for a budget.
        utilisation: which share of their time ingest workers were at work; missing where nobody knows.
        recall_ms: the time within which 95 % of recalls were searched for; missing where there were too few.
        cached_percent: the share of looks into the cache of questions that found something; missing where there were
            too few.
        refusals: how many requests to the provider it refused for a rate, in the last minutes.
    """

    queue_age_s: float = 0.0
    open_jobs: int = 0
    over_budget: int = 0
    utilisation: float | None = None
    recall_ms: float | None = None
    refusals: float = 0.0
    cached_percent: float | None = None


@dataclass(frozen=True, slots=True)
class Totals:
    """What all processes had counted so many seconds ago, by the names of series."""

    age_s: float
    counts: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Last:
    """The last look, and how long ago it was, in seconds."""

    age_s: float
    health: Health


def now(control: Node) -> datetime:
    """The time by control's clock."""
    found: datetime = control.run(_SQL["now"].render())[0][0]
    return found


def add(control: Node, health: Health, figures: Figures, totals: Mapping[str, float]) -> None:
    """Keep what came of a look."""
    params = {
        "score": health.score,
        "report": Json(health, dumps=wire.dump),
        "figures": Json(figures, dumps=wire.dump),
        "totals": Jsonb(dict(totals)),
    }
    control.run(_SQL["add"].render(), params)


def newest(control: Node) -> Last | None:
    """The last look, if there was one; one that lies ahead is from before the clock was set back, and nobody's last."""
    rows = control.run(_SQL["newest"].render())
    if not rows or rows[0][0] < -_AT_ONCE_S:
        return None
    return Last(max(0.0, rows[0][0]), wire.load(Health, rows[0][1]))


def figures(control: Node, since_s: float) -> list[Figures]:
    """The figures of the looks since then, the oldest first."""
    rows = control.run(_SQL["figures"].render(), {"since_s": since_s})
    return [wire.load(Figures, text) for _, text in rows]


def cached_percent(control: Node, since_s: float) -> float | None:
    """The largest share of looks into the cache of questions that found something, of the looks since then."""
    found: float | None = control.run(_SQL["cached_percent"].render(), {"since_s": since_s})[0][0]
    return found


def before(control: Node, since_s: float, least_s: float) -> Totals | None:
    """What had been counted at the oldest look that is no longer ago than the one, and no shorter than the other."""
    rows = control.run(_SQL["before"].render(), {"since_s": since_s, "least_s": least_s})
    return Totals(*rows[0]) if rows else None


def sizes(node: Node) -> dict[str, int]:
    """About how many bytes the shards on a node take, by their schemas."""
    return dict(node.run(_SQL["sizes"].render()))
