"""Alerts: that a share of a budget is reached is noted once in each period, and told by one process at a time."""

from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from memlane.contract.cost import AtLimit, Period
from memlane.storage import queries
from memlane.storage.nodes import Node

_SQL = queries.load("alerts")


@dataclass(frozen=True, slots=True)
class Reached:
    """A share of a budget that was reached; the agent is empty for a tenant's own."""

    tenant: str
    agent: str
    period: Period
    percent: int


@dataclass(frozen=True, slots=True)
class Alert(Reached):
    """One that is to be told.

    Attributes:
        starts: the first day of the period.
        resets_at: when the budget begins anew.
        limit_micro: what may be spent, in micro-dollars.
        spent_micro: what is, with its fractions.
        at_limit: what happens when it is used up.
        tries: how often it was tried to tell, this time among them.
    """

    starts: date
    resets_at: datetime
    limit_micro: int
    spent_micro: float
    at_limit: AtLimit
    tries: int


def reach(control: Node, percents: tuple[int, ...]) -> list[Reached]:
    """Note which shares of budgets are reached; those that nobody had noted yet, each to one caller alone."""
    control.run(_SQL["rearm"].render())
    rows = control.run(_SQL["reach"].render(), {"percents": list(percents)})
    if rows:
        control.run(_SQL["pass_over"].render())
    return [Reached(tenant, agent, Period(period), percent) for tenant, agent, period, percent in rows]


def claim(control: Node, tries: int, pause_s: float) -> Alert | None:
    """An alert that is to be told now, by us alone; None if there is none.

    Args:
        control: where they are kept.
        tries: how often telling is tried.
        pause_s: how long nobody else tries after the first time; after the second four times as long, and so on.
    """
    rows = control.run(_SQL["claim"].render(), {"tries": tries, "pause_s": pause_s})
    if not rows:
        return None
    ((tenant, agent, period, percent, starts, resets_at, limit_micro, spent_micro, at_limit, tried),) = rows
    return Alert(
        tenant,
        agent,
        Period(period),
        percent,
        starts=starts,
        resets_at=resets_at,
        limit_micro=limit_micro,
        spent_micro=spent_micro,
        at_limit=AtLimit(at_limit),
        tries=tried,
    )


def told(control: Node, alert: Alert) -> None:
    """An alert was told."""
    params: dict[str, Any] = {"tenant": alert.tenant, "agent": alert.agent, "period": alert.period.value}
    control.run(_SQL["told"].render(), {**params, "starts": alert.starts, "percent": alert.percent})
