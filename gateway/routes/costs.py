"""/v1/admin/budgets, /usage, /prices, /latencies: what may be spent, what is, and at which prices."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.responses import Response

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
from memlane.contract.parsing import parse
from memlane.contract.text import Clean, Name
from memlane.errors import NotFound
from memlane.gateway import costs
from memlane.gateway.auth import admin
from memlane.gateway.bodies import answer, body_of, read
from memlane.gateway.problems import failing
from memlane.gateway.routes.budgets import Agent, By, Limit, Model, Next, OfPeriod, Since, Until
from memlane.gateway.state import gateway_of
from memlane.storage import budgets, prices, usage
from memlane.storage.budgets import BudgetName

router = APIRouter(prefix="/v1/admin", tags=["admin"], dependencies=[Depends(admin)])

TenantFilter = Annotated[Annotated[str, Clean] | None, Query(description="whose")]
Tenant = Annotated[Annotated[str, Clean], Path(description="whose")]
Every = Annotated[Period, Path(description="for how long the budget is")]
OfAgent = Annotated[Name | None, Query(description="of this agent alone; of all that the tenant spends without it")]
ModelName = Annotated[Name, Path(description="as its provider calls it")]

_BUDGET = "/budgets/{tenant}/{period}"
_PRICE = "/prices/{model:whole}"


@router.get("/budgets", response_model=Budgets)
async def list_budgets(
    request: Request, tenant: TenantFilter = None, agent: Agent = None, limit: Limit = 100, cursor: Next = None
) -> Response:
    """Budgets by tenant and agent, with what is spent in the period that goes on now."""
    wanted = BudgetsRequest(tenant=tenant, agent=agent, limit=limit, cursor=cursor)
    return answer(await costs.budgets_of(gateway_of(request), wanted))


@router.get("/budgets/history", response_model=History)
async def read_history(
    request: Request,
    tenant: TenantFilter = None,
    agent: Agent = None,
    period: OfPeriod = None,
    limit: Limit = 100,
    cursor: Next = None,
) -> Response:
    """What was spent of budgets in each period, the latest first."""
    wanted = HistoryRequest(tenant=tenant, agent=agent, period=period, limit=limit, cursor=cursor)
    return answer(await costs.history_of(gateway_of(request), wanted))


@router.put(_BUDGET, response_model=Budget, openapi_extra=body_of(BudgetRequest), responses=failing(NotFound))
async def set_budget(request: Request, tenant: Tenant, period: Every, agent: OfAgent = None) -> Response:
    """Set a budget up, or change it; what was spent before in its period counts. The agent need not be known yet."""
    gateway = gateway_of(request)
    wanted = await read(request, BudgetRequest)
    name = BudgetName(tenant, agent or "", period)
    control = gateway.lane.cluster.control
    made = await gateway.threads.on_control(lambda: budgets.set_up(control, name, wanted))
    await gateway.resuming.go_on(tenant)
    return answer(made)


@router.delete(_BUDGET, response_model=BudgetRemoved, responses=failing(NotFound))
async def remove_budget(request: Request, tenant: Tenant, period: Every, agent: OfAgent = None) -> Response:
    """Take a budget away; calls under way are settled all the same."""
    gateway = gateway_of(request)
    name = BudgetName(tenant, agent or "", period)
    await gateway.threads.on_control(lambda: budgets.remove(gateway.lane.cluster.control, name))
    await gateway.resuming.go_on(tenant)
    return answer(BudgetRemoved(tenant, period, True, agent))


@router.get("/usage", response_model=UsagePage)
async def read_usage(
    request: Request,
    by: By = "day",
    tenant: TenantFilter = None,
    agent: Agent = None,
    model: Model = None,
    since: Since = None,
    until: Until = None,
    limit: Limit = 100,
    cursor: Next = None,
) -> Response:
    """What was asked of embeddings providers, what it cost and what was saved, added up."""
    asked = {"by": by, "tenant": tenant, "agent": agent, "model": model, "since": since, "until": until}
    wanted = parse(UsageRequest, {**asked, "limit": limit, "cursor": cursor})
    return answer(await costs.usage_of(gateway_of(request), wanted))


@router.get("/prices", response_model=list[Price])
async def list_prices(request: Request) -> Response:
    """What each model costs."""
    gateway = gateway_of(request)
    return answer(await gateway.threads.on_control(lambda: prices.listed(gateway.lane.cluster.control)))


@router.put(_PRICE, response_model=Price, openapi_extra=body_of(PriceRequest))
async def set_price(request: Request, model: ModelName) -> Response:
    """Set what a model costs from now on; what was spent before stays as it was."""
    gateway = gateway_of(request)
    wanted = await read(request, PriceRequest)
    price = Price(model, wanted.micro_per_million)
    await gateway.threads.on_control(lambda: prices.set_to(gateway.lane.cluster.control, price))
    await gateway.resuming.go_on(None)
    return answer(price)


@router.delete(_PRICE, response_model=PriceRemoved, responses=failing(NotFound))
async def remove_price(request: Request, model: ModelName) -> Response:
    """Take a model's price away: where there is a budget, nothing is asked of it then."""
    gateway = gateway_of(request)
    await gateway.threads.on_control(lambda: prices.remove(gateway.lane.cluster.control, model))
    return answer(PriceRemoved(model, True))


@router.get("/latencies", response_model=list[Latency])
async def list_latencies(request: Request) -> Response:
    """How long requests to providers took in the mean, by model and by how many texts they had."""
    gateway = gateway_of(request)
    return answer(await gateway.threads.on_control(lambda: usage.latencies(gateway.lane.cluster.control)))
