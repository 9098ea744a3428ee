"""Usage: what was asked of embeddings providers day by day, what it cost, what was saved, and how long it took."""

from dataclasses import astuple, dataclass
from datetime import date
from typing import Self

from memlane.contract.cost import Latency, Usage, UsageRequest
from memlane.storage import queries
from memlane.storage.nodes import Node

_SQL = queries.load("usage")


@dataclass(frozen=True, slots=True)
class Sums:
    """All that was used of a model; costs in dollars."""

    requests: float = 0.0
    failed: float = 0.0
    texts: float = 0.0
    tokens: float = 0.0
    cost_dollars: float = 0.0
    saved_texts: float = 0.0
    saved_tokens: float = 0.0
    saved_dollars: float = 0.0
    saved_requests: float = 0.0

    def __add__(self, other: Self) -> "Sums":
        """Both together."""
        return Sums(*(mine + theirs for mine, theirs in zip(astuple(self), astuple(other), strict=True)))


def summed(control: Node, wanted: UsageRequest) -> list[Usage]:
    """Usage, added up, and one row more than asked for where there are more."""
    params = {
        "by": [part.value for part in wanted.by],
        "tenant": wanted.tenant,
        "agent": wanted.agent,
        "model": wanted.model,
        "since": wanted.since,
        "until": wanted.until,
        "limit": wanted.limit + 1,
        "offset": wanted.offset,
    }
    return [Usage(*row) for row in control.run(_SQL["summed"].render(), params)]


def yesterday(control: Node) -> date:
    """The first day whose sums may still change."""
    ((day,),) = control.run(_SQL["yesterday"].render())
    assert isinstance(day, date)
    return day


def by_model(control: Node, since: date | None = None, before: date | None = None) -> dict[str, Sums]:
    """What was used of each model, by all tenants.

    Args:
        control: where it is kept.
        since: from this day on; from the beginning unless given.
        before: the first day that does not count any more.
    """
    rows = control.run(_SQL["by_model"].render(), {"since": since, "before": before})
    return {model: Sums(*sums) for model, *sums in rows}


def latencies(control: Node) -> list[Latency]:
    """How long requests took, by model and size."""
    return [Latency(*row) for row in control.run(_SQL["latencies"].render())]
