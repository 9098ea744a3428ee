"""/v1/agents: what concerns all memories of an agent. /v1/ledger: whether everything adds up."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Header, Request
from fastapi.responses import Response

from memlane.contract import Ledger
from memlane.contract.answers import AgentForgotten, Job
from memlane.contract.patterns import Patterns
from memlane.contract.requests import REQUEST_HEADER, ForgetMatching, Forgetting
from memlane.contract.text import Name
from memlane.errors import NotFound
from memlane.gateway import overview
from memlane.gateway.auth import principal, tenant
from memlane.gateway.bodies import answer, body_of, read
from memlane.gateway.operations import operation
from memlane.gateway.parameters import AGENT
from memlane.gateway.problems import failing
from memlane.gateway.state import gateway_of
from memlane.storage import patterns
from memlane.storage.tenants import Principal
from memlane.tasks import forget, optimize

router = APIRouter(tags=["agents"])

Tenant = Annotated[str, Depends(tenant)]

Asking = Annotated[
    UUID | None,
    Header(
        alias=REQUEST_HEADER,
        description="names the request: sent again, it does not forget what was accepted since it was obeyed",
    ),
]


@router.post(f"/v1/agents/{AGENT}/optimize", status_code=202, response_model=Job, responses=failing(NotFound))
async def optimize_agent(request: Request, tenant: Tenant, agent: Name) -> dict[str, Any]:
    """Bring statistics up to date, and give the agent an index of its own if it has outgrown exact search."""
    gateway = gateway_of(request)
    shard = gateway.lane.cluster.shard_of(tenant, agent)
    with gateway.lane.hooks.around(operation(request, "optimize", tenant, shard)):
        job = await gateway.threads.on_shard(shard, lambda: optimize.request(gateway.lane, tenant, agent))
    if job is None:
        raise NotFound("nothing was accepted for this agent yet")
    return {"job": str(job)}


@router.delete(f"/v1/agents/{AGENT}", status_code=202, response_model=AgentForgotten, responses=failing(NotFound))
async def forget_agent(request: Request, tenant: Tenant, agent: Name, asking: Asking = None) -> dict[str, Any]:
    """Forget everything that was accepted for an agent up to now; it is out of sight at once."""
    gateway = gateway_of(request)
    shard = gateway.lane.cluster.shard_of(tenant, agent)
    with gateway.lane.hooks.around(operation(request, "forget", tenant, shard)):
        known = await gateway.threads.on_shard(shard, lambda: forget.forget_agent(gateway.lane, tenant, agent, asking))
        if not known:
            raise NotFound("nothing was accepted for this agent yet")
    return {"agent": agent, "state": "forgotten"}


@router.post(
    f"/v1/agents/{AGENT}/forget",
    status_code=202,
    response_model=Forgetting,
    openapi_extra=body_of(ForgetMatching),
    responses={
        200: {"model": Forgetting, "description": "None passes the filters, or it was a dry run."},
        **failing(NotFound),
    },
)
async def forget_matching(request: Request, tenant: Tenant, agent: Name, asking: Asking = None) -> Response:
    """Forget what an agent was told up to now and passes filters, in the background; a dry run only counts."""
    gateway = gateway_of(request)
    wanted = await read(request, ForgetMatching)
    shard = gateway.lane.cluster.shard_of(tenant, agent)
    with gateway.lane.hooks.around(operation(request, "forget", tenant, shard)):
        asked = await gateway.threads.on_shard(
            shard,
            lambda: forget.forget_matching(
                gateway.lane, tenant, agent, wanted.filters, dry_run=wanted.dry_run, request=asking
            ),
        )
        if asked is None:
            raise NotFound("nothing was accepted for this agent yet")
    return answer(Forgetting(agent, asked.matched, asked.job), 200 if asked.job is None else 202)


@router.get(f"/v1/agents/{AGENT}/patterns", response_model=Patterns, responses=failing(NotFound))
async def read_patterns(request: Request, tenant: Tenant, agent: Name) -> Response:
    """The questions that an agent is asked again and again, of its last ones, the most frequent first."""
    gateway = gateway_of(request)
    shard = gateway.lane.cluster.shard_of(tenant, agent)
    found = await gateway.threads.on_shard(
        shard, lambda: gateway.lane.cluster.on(shard, lambda here: patterns.of(here, tenant, agent))
    )
    if found is None:
        raise NotFound("nothing was accepted for this agent yet")
    return answer(Patterns(agent, tuple(found)))


@router.get("/v1/ledger", response_model=Ledger)
async def read_ledger(request: Request, asking: Annotated[Principal, Depends(principal)]) -> Response:
    """The sums of a tenant, or of all for the admin: accepted = stored + dropped + parked + open."""
    return answer(await overview.ledger_of(gateway_of(request), asking.tenant))
