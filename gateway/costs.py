"""Budgets, their history and usage as pages: the same for a tenant, who is named by its key, and for the admin."""

from collections.abc import Sequence
from typing import TypeVar

from memlane.contract.cost import Budgets, BudgetsRequest, History, HistoryRequest, UsagePage, UsageRequest
from memlane.gateway.state import Gateway
from memlane.storage import budgets, usage

T = TypeVar("T")


async def budgets_of(gateway: Gateway, wanted: BudgetsRequest) -> Budgets:
    """A page of budgets."""
    control = gateway.lane.cluster.control
    rows = await gateway.threads.on_control(lambda: budgets.listed(control, wanted))
    return Budgets(*_page(rows, wanted))


async def history_of(gateway: Gateway, wanted: HistoryRequest) -> History:
    """A page of what was spent in each period."""
    control = gateway.lane.cluster.control
    rows = await gateway.threads.on_control(lambda: budgets.history(control, wanted))
    return History(*_page(rows, wanted))


async def usage_of(gateway: Gateway, wanted: UsageRequest) -> UsagePage:
    """A page of usage."""
    control = gateway.lane.cluster.control
    rows = await gateway.threads.on_control(lambda: usage.summed(control, wanted))
    return UsagePage(*_page(rows, wanted))


def _page(rows: Sequence[T], wanted: BudgetsRequest | UsageRequest) -> tuple[Sequence[T], str | None]:
    """The rows that were asked for, and where the next page goes on, if there are more."""
    more = len(rows) > wanted.limit
    return rows[: wanted.limit], str(wanted.offset + wanted.limit) if more else None
