"""/v1/budgets, /v1/usage: what a tenant may spend, what it has spent, and for what; nothing of others."""

from datetime import date
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response

from memlane.contract import limits
from memlane.contract.cost import (
    Budgets,
    BudgetsRequest,
    Cursor,
    History,
    HistoryRequest,
    Period,
    UsagePage,
    UsageRequest,
)
from memlane.contract.parsing import parse
from memlane.contract.text import Clean, Name
from memlane.gateway import costs
from memlane.gateway.auth import tenant
from memlane.gateway.bodies import answer
from memlane.gateway.state import gateway_of

router = APIRouter(tags=["budgets"])

Tenant = Annotated[str, Depends(tenant)]
Agent = Annotated[Name | None, Query(description="of this agent alone")]
OfPeriod = Annotated[Period | None, Query(description="of daily or of monthly budgets alone")]
By = Annotated[str, Query(description="some of day, tenant, agent, model, with commas between; empty: all in one")]
Model = Annotated[Annotated[str, Clean] | None, Query(description="of this model alone")]
Since = Annotated[date | None, Query(description="from this day on; from 30 days ago unless given")]
Until = Annotated[date | None, Query(description="up to this day, which counts")]
Limit = Annotated[int, Query(ge=1, le=limits.PAGE_ITEMS, description="how many at most")]
Next = Annotated[Cursor | None, Query(description="`next` of the page before")]


@router.get("/v1/budgets", response_model=Budgets)
async def list_budgets(
    request: Request, tenant: Tenant, agent: Agent = None, limit: Limit = 100, cursor: Next = None
) -> Response:
    """Your budgets and those of your agents, with what is spent in the period that goes on now."""
    wanted = BudgetsRequest(tenant=tenant, agent=agent, limit=limit, cursor=cursor)
    return answer(await costs.budgets_of(gateway_of(request), wanted))


@router.get("/v1/budgets/history", response_model=History)
async def read_history(
    request: Request,
    tenant: Tenant,
    agent: Agent = None,
    period: OfPeriod = None,
    limit: Limit = 100,
    cursor: Next = None,
) -> Response:
    """What was spent of your budgets in each period, the latest first."""
    wanted = HistoryRequest(tenant=tenant, agent=agent, period=period, limit=limit, cursor=cursor)
    return answer(await costs.history_of(gateway_of(request), wanted))


@router.get("/v1/usage", response_model=UsagePage)
async def read_usage(
    request: Request,
    tenant: Tenant,
    by: By = "day",
    agent: Agent = None,
    model: Model = None,
    since: Since = None,
    until: Until = None,
    limit: Limit = 100,
    cursor: Next = None,
) -> Response:
    """What was asked of embeddings providers for you, what it cost and what was saved, added up."""
    asked = {"by": by, "tenant": tenant, "agent": agent, "model": model, "since": since, "until": until}
    wanted = parse(UsageRequest, {**asked, "limit": limit, "cursor": cursor})
    return answer(await costs.usage_of(gateway_of(request), wanted))
