"""The calls about money, a tenant's at /v1 and the admin's at /v1/admin: what is sent, and what the answer means."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from datetime import date
from typing import Any, Protocol, TypedDict, TypeVar
from urllib.parse import quote

from pydantic import BaseModel

from memlane.client.calls import Call
from memlane.contract import limits, wire
from memlane.contract.cost import (
    Budget,
    BudgetRemoved,
    BudgetRequest,
    Budgets,
    BudgetsRequest,
    History,
    HistoryRequest,
    Latency,
    Period,
    Price,
    PriceRemoved,
    PriceRequest,
    UsagePage,
    UsageRequest,
)


class _Page(Protocol):
    @property
    def next(self) -> str | None: ...


T = TypeVar("T")
P = TypeVar("P", bound=_Page)

OWN = "/v1"
"""Where a tenant asks."""

ALL = "/v1/admin"
"""Where the admin asks."""


class UsageFields(TypedDict, total=False):
    """Which usage is added up; `UsageRequest` explains each."""

    agent: str | None
    model: str | None
    since: date | None
    until: date | None


def budgets(where: str, wanted: BudgetsRequest) -> Call[Budgets]:
    """GET .../budgets."""
    return _get(f"{where}/budgets", Budgets, wanted)


def history(where: str, wanted: HistoryRequest) -> Call[History]:
    """GET .../budgets/history."""
    return _get(f"{where}/budgets/history", History, wanted)


def usage(where: str, wanted: UsageRequest) -> Call[UsagePage]:
    """GET .../usage."""
    return _get(f"{where}/usage", UsagePage, wanted, by=",".join(wanted.by))


def set_budget(tenant: str, agent: str | None, period: Period, wanted: BudgetRequest) -> Call[Budget]:
    """PUT /v1/admin/budgets/{tenant}/{period}."""
    return Call("PUT", *_budget(tenant, period, Budget), _body(wanted), _agent(agent))


def remove_budget(tenant: str, agent: str | None, period: Period) -> Call[BudgetRemoved]:
    """DELETE /v1/admin/budgets/{tenant}/{period}."""
    return Call("DELETE", *_budget(tenant, period, BudgetRemoved), params=_agent(agent))


def prices() -> Call[list[Price]]:
    """GET /v1/admin/prices."""
    return Call("GET", f"{ALL}/prices", lambda data: wire.load(list[Price], data))


def set_price(model: str, wanted: PriceRequest) -> Call[Price]:
    """PUT /v1/admin/prices/{model}."""
    return Call("PUT", f"{ALL}/prices/{quote(model, safe='')}", lambda data: wire.load(Price, data), _body(wanted))


def remove_price(model: str) -> Call[PriceRemoved]:
    """DELETE /v1/admin/prices/{model}."""
    return Call("DELETE", f"{ALL}/prices/{quote(model, safe='')}", lambda data: wire.load(PriceRemoved, data))


def latencies() -> Call[list[Latency]]:
    """GET /v1/admin/latencies."""
    return Call("GET", f"{ALL}/latencies", lambda data: wire.load(list[Latency], data))


def paged(read: Callable[[Mapping[str, Any]], P]) -> Iterator[P]:
    """Page after page, read with the fields that say which."""
    cursor: str | None = None
    while True:
        page = read(_page_at(cursor))
        yield page
        cursor = page.next
        if cursor is None:
            return


async def paged_async(read: Callable[[Mapping[str, Any]], Awaitable[P]]) -> AsyncIterator[P]:
    """As `paged`, awaited."""
    cursor: str | None = None
    while True:
        page = await read(_page_at(cursor))
        yield page
        cursor = page.next
        if cursor is None:
            return


def _page_at(cursor: str | None) -> Mapping[str, Any]:
    """The fields of a request that say which page is asked for."""
    return {"limit": limits.PAGE_ITEMS, "cursor": cursor}


def _get(path: str, kind: type[T], wanted: BaseModel, **more: str) -> Call[T]:
    params = wanted.model_dump(mode="json", exclude_none=True) | more
    return Call("GET", path, lambda data: wire.load(kind, data), params=params)


def _budget(tenant: str, period: Period, kind: type[T]) -> tuple[str, Any]:
    return f"{ALL}/budgets/{quote(tenant, safe='')}/{period}", lambda data: wire.load(kind, data)


def _agent(agent: str | None) -> Mapping[str, Any]:
    return {} if agent is None else {"agent": agent}


def _body(wanted: BaseModel) -> bytes:
    return wanted.model_dump_json().encode()
