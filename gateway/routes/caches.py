"""/v1/admin/caches: of what use caches are, and having them forget what they know."""

from functools import partial
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response

from memlane.contract.caching import CachesCleared, CacheStatus
from memlane.contract.text import Name
from memlane.errors import FieldError, InvalidInput, NotFound
from memlane.gateway import live
from memlane.gateway.auth import admin
from memlane.gateway.bodies import answer
from memlane.gateway.problems import failing
from memlane.gateway.state import Gateway, gateway_of
from memlane.gateway.threads import LOOK_S
from memlane.storage import versions

router = APIRouter(prefix="/v1/admin", tags=["admin"], dependencies=[Depends(admin)])

OfTenant = Annotated[Name | None, Query(description="of this tenant alone")]
OfAgent = Annotated[Name | None, Query(description="of this agent of the tenant alone")]
OfMemory = Annotated[UUID | None, Query(description="whatever this memory of the agent may be in: all of the agent")]


@router.get("/caches", response_model=list[CacheStatus])
async def list_caches(request: Request) -> Response:
    """How often each level of each cache knew what it was asked, in all processes together, and what it holds."""
    gateway = gateway_of(request)
    control, lost_s = gateway.lane.cluster.control, gateway.settings.lost_s
    return answer(await gateway.threads.on_control(lambda: live.caches(control, lost_s), LOOK_S))


@router.delete("/caches", response_model=CachesCleared, responses=failing(NotFound))
async def clear_caches(
    request: Request, tenant: OfTenant = None, agent: OfAgent = None, memory: OfMemory = None
) -> Response:
    """Have all processes forget what they know of everything, of a tenant, or of an agent; it holds at once."""
    gateway = gateway_of(request)
    if (agent is not None and tenant is None) or (memory is not None and agent is None):
        raise InvalidInput([FieldError("tenant", "an agent needs its tenant, and a memory its agent")])
    if tenant is None:
        return answer(await _all(gateway))
    agents = await _of(gateway, tenant, agent)
    if agent is not None and not agents:
        raise NotFound("nothing was accepted for this agent yet")
    return answer(CachesCleared(agents))


async def _all(gateway: Gateway) -> CachesCleared:
    lane = gateway.lane
    shards = [shard.number for shard in lane.cluster.shards()]
    await gateway.threads.on_all(shards, lambda number: versions.renew_all(lane.cluster, number))
    lane.caches.drop_here()
    if (shared := lane.caches.shared) is not None:
        gateway.answers.later(shared.clear)
    return CachesCleared()


async def _of(gateway: Gateway, tenant: str, agent: str | None) -> int:
    lane = gateway.lane
    every = [shard.number for shard in lane.cluster.shards()]
    shards = every if agent is None else [lane.cluster.shard_of(tenant, agent)]

    def clear(number: int) -> int:
        numbers = lane.cluster.on(number, partial(versions.renew, tenant=tenant, agent=agent))
        lane.caches.forgotten(number, numbers)
        return len(numbers)

    return sum(await gateway.threads.on_all(shards, clear))
