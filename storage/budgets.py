"""Budgets: what tenants and agents may spend in a day or a month, and what they have; reckoned in control.

Whoever spends reserves first and settles afterwards, by functions of the database that these rows belong to.
"""

from dataclasses import dataclass
from typing import Any

from memlane.contract.cost import AtLimit, Budget, BudgetRequest, BudgetsRequest, HistoryRequest, Period, Spending
from memlane.errors import NotFound
from memlane.storage import queries
from memlane.storage.nodes import Node

_SQL = queries.load("budgets")

_FULLEST = 1000


@dataclass(frozen=True, slots=True)
class BudgetName:
    """Which budget: a tenant has one for each period, and so has each of its agents; empty: the tenant's own."""

    tenant: str
    agent: str
    period: Period

    @property
    def params(self) -> dict[str, Any]:
        """As parameters of a query."""
        return {"tenant": self.tenant, "agent": self.agent, "period": self.period.value}


def set_up(control: Node, name: BudgetName, wanted: BudgetRequest) -> Budget:
    """Set a budget up, or change it; it as it is then. What was spent before in its period counts.

    Args:
        control: where budgets are kept.
        name: which; the agent need not be known yet.
        wanted: what may be spent.

    Raises:
        NotFound: there is no such tenant.
    """
    params = {**name.params, "limit_micro": wanted.limit_micro, "at_limit": wanted.at_limit}
    if not control.run(_SQL["set_up"].render(), params, writes=True):
        raise NotFound(f"there is no tenant {name.tenant}")
    found = _listed(control, {**name.params, "limit": 1, "offset": 0})
    if not found:
        raise _none(name)
    return found[0]


def remove(control: Node, name: BudgetName) -> None:
    """Take a budget away; calls under way are settled all the same.

    Raises:
        NotFound: there is none.
    """
    ((removed,),) = control.run(_SQL["remove"].render(), name.params, writes=True)
    if not removed:
        raise _none(name)


def listed(control: Node, wanted: BudgetsRequest) -> list[Budget]:
    """Budgets by tenant and agent, and one more than asked for where there are more."""
    params = {"tenant": wanted.tenant, "agent": wanted.agent, "period": None}
    return _listed(control, {**params, "limit": wanted.limit + 1, "offset": wanted.offset})


def fullest(control: Node, percent: float) -> list[Budget]:
    """Budgets of which so much is spent, in percent, the fullest first; of very many only some."""
    params = {"tenant": None, "agent": None, "period": None, "least": percent, "limit": _FULLEST, "offset": 0}
    return sorted(_listed(control, params), key=lambda budget: -budget.percent)


def history(control: Node, wanted: HistoryRequest) -> list[Spending]:
    """Periods of budgets, the latest first, and one more than asked for where there are more."""
    params = {"tenant": wanted.tenant, "agent": wanted.agent, "period": wanted.period}
    rows = control.run(_SQL["history"].render(), {**params, "limit": wanted.limit + 1, "offset": wanted.offset})
    return [Spending(tenant, Period(period), *more) for tenant, period, *more in rows]


def reached(control: Node, percents: tuple[int, ...]) -> dict[int, int]:
    """How many budgets have reached which share, in percent; each counts for the highest, or for 0."""
    found: dict[int, int] = dict(control.run(_SQL["reached"].render(), {"percents": list(percents)}))
    return {percent: found.get(percent, 0) for percent in (0, *percents)}


def _listed(control: Node, params: dict[str, Any]) -> list[Budget]:
    rows = control.run(_SQL["listed"].render(), {"least": 0.0, **params})
    return [
        Budget(tenant, Period(period), limit, AtLimit(at_limit), *more)
        for tenant, period, limit, at_limit, *more in rows
    ]


def _none(name: BudgetName) -> NotFound:
    whose = f"agent {name.agent} of tenant {name.tenant}" if name.agent else f"tenant {name.tenant}"
    return NotFound(f"there is no budget of {whose} for a {name.period}")
