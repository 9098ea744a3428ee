"""/v1/jobs/parked: a tenant's memories whose jobs were set aside: looked at, tried again, given up."""

from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response

from memlane.contract import limits
from memlane.contract.parked import Changed, MemoryNames, ParkedPage
from memlane.contract.text import Name
from memlane.gateway.auth import tenant
from memlane.gateway.bodies import answer, body_of, read
from memlane.gateway.pages import page_of
from memlane.gateway.state import Gateway, gateway_of
from memlane.storage import parked
from memlane.storage.jobs import Kind
from memlane.storage.parked import Which
from memlane.storage.places import Place
from memlane.tasks import parked as decisions

router = APIRouter(prefix="/v1/jobs/parked", tags=["jobs"])

Tenant = Annotated[str, Depends(tenant)]


@router.get("", response_model=ParkedPage)
async def list_parked(
    request: Request,
    tenant: Tenant,
    agent: Annotated[Name | None, Query(description="whose memories")] = None,
    id: Annotated[UUID | None, Query(description="one memory's")] = None,
    kind: Annotated[Literal["remember", "embed"] | None, Query(description="what the jobs are for")] = None,
    limit: Annotated[int, Query(ge=1, le=limits.PAGE_ITEMS, description="how many at most")] = 50,
    cursor: Annotated[str | None, Query(description="`next` of the page before")] = None,
) -> Response:
    """Memories that were set aside, since whoever worked on them died or failed each time; with what they say."""
    gateway = gateway_of(request)
    which = Which(tenant=tenant, agent=agent, id=id, kind=Kind(kind) if kind else None)
    cluster = gateway.lane.cluster
    shards = range(cluster.shard_count) if agent is None else [cluster.shard_of(tenant, agent)]
    after = Place.of(cursor, int)
    rows = await page_of(
        gateway, shards, after, limit, lambda shard, place, most: parked.own(shard, which, place, most)
    )
    return answer(ParkedPage(rows.rows, rows.next, rows.missing))


@router.post("/retry", response_model=Changed, openapi_extra=body_of(MemoryNames))
async def retry_parked(request: Request, tenant: Tenant) -> Response:
    """Try parked memories again, as if nobody had died with them; those that are not parked stay as they are."""
    return await _decided(gateway_of(request), tenant, await read(request, MemoryNames), decisions.retry)


@router.post("/drop", response_model=Changed, openapi_extra=body_of(MemoryNames))
async def drop_parked(request: Request, tenant: Tenant) -> Response:
    """Give parked jobs up. A memory that was not stored is forgotten for good; one that was stays, without a vector."""
    return await _decided(gateway_of(request), tenant, await read(request, MemoryNames), decisions.drop)


async def _decided(gateway: Gateway, tenant: str, named: MemoryNames, decide: decisions.Decide) -> Response:
    lane = gateway.lane
    parts: dict[int, list[tuple[str, UUID]]] = {}
    for name in named.memories:
        parts.setdefault(lane.cluster.shard_of(tenant, name.agent), []).append((name.agent, name.id))

    def work(number: int) -> int:
        found = lane.cluster.on(number, lambda shard: parked.numbers_of(shard, tenant, parts[number]))
        return decide(lane, number, found) if found else 0

    return answer(Changed(sum(await gateway.threads.on_all(parts, work))))
