"""/v1/admin/jobs/parked, /v1/admin/strays: what was set aside, of all tenants, without content; for the admin key."""

from collections.abc import Callable
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response

from memlane.contract import limits
from memlane.contract.parked import Changed, JobName, JobNames, ParkedJobs, StrayNames, Strays
from memlane.contract.text import Clean
from memlane.errors import NotFound, Unavailable
from memlane.gateway.auth import admin
from memlane.gateway.bodies import answer, body_of, read
from memlane.gateway.pages import page_of
from memlane.gateway.problems import failing
from memlane.gateway.state import Gateway, gateway_of
from memlane.storage import parked, strays
from memlane.storage.cluster import Shard
from memlane.storage.jobs import Kind
from memlane.storage.parked import Which
from memlane.storage.places import Place
from memlane.tasks import parked as decisions

router = APIRouter(prefix="/v1/admin", tags=["admin"], dependencies=[Depends(admin)])

TenantFilter = Annotated[Annotated[str, Clean] | None, Query(description="whose")]
ShardFilter = Annotated[int | None, Query(ge=0, description="where")]
Limit = Annotated[int, Query(ge=1, le=limits.PAGE_ITEMS, description="how many at most")]
Cursor = Annotated[str | None, Query(description="`next` of the page before")]


@router.get("/jobs/parked", response_model=ParkedJobs, responses=failing(NotFound))
async def list_parked_jobs(
    request: Request,
    tenant: TenantFilter = None,
    kind: Annotated[Kind | None, Query(description="what they are for")] = None,
    shard: ShardFilter = None,
    id: Annotated[UUID | None, Query(description="of the memory that they are about")] = None,
    job: Annotated[JobName | None, Query(description="one job's name, like `3.1042`")] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Response:
    """Jobs that were set aside, since whoever worked on them died or failed each time; without what they carry."""
    gateway = gateway_of(request)
    where, number = _place(job) if job is not None else (shard, None)
    which = Which(tenant=tenant, kind=kind, id=id, number=number)
    after = Place.of(cursor, int)
    rows = await page_of(
        gateway, _shards(gateway, where), after, limit, lambda here, at, most: parked.listed(here, which, at, most)
    )
    return answer(ParkedJobs(rows.rows, rows.next, rows.missing))


@router.post("/jobs/parked/retry", response_model=Changed, openapi_extra=body_of(JobNames), responses=failing(NotFound))
async def retry_parked_jobs(request: Request) -> Response:
    """Try parked jobs again, as if nobody had died with them; those that are not parked stay as they are."""
    return await _decided(gateway_of(request), await read(request, JobNames), decisions.retry)


@router.post("/jobs/parked/drop", response_model=Changed, openapi_extra=body_of(JobNames), responses=failing(NotFound))
async def drop_parked_jobs(request: Request) -> Response:
    """Give parked jobs up. A memory that was not stored is forgotten for good; jobs that forget something stay."""
    return await _decided(gateway_of(request), await read(request, JobNames), decisions.drop)


async def _decided(gateway: Gateway, named: JobNames, decide: decisions.Decide) -> Response:
    parts: dict[int, list[int]] = {}
    for name in named.jobs:
        shard, number = _place(name)
        parts.setdefault(_shards(gateway, shard)[0], []).append(number)
    return answer(
        Changed(sum(await gateway.threads.on_all(parts, lambda shard: decide(gateway.lane, shard, parts[shard]))))
    )


@router.get("/strays", response_model=Strays, responses=failing(NotFound))
async def list_strays(
    request: Request,
    tenant: TenantFilter = None,
    task: Annotated[Annotated[str, Clean] | None, Query(description="the producer's task")] = None,
    shard: ShardFilter = None,
    id: Annotated[UUID | None, Query(description="one stray's")] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Response:
    """Producers' messages that could not be taken in, with the reason; without what they say."""
    gateway = gateway_of(request)
    which = strays.Which(tenant, task, id)
    after = Place.of(cursor, UUID)
    rows = await page_of(
        gateway, _shards(gateway, shard), after, limit, lambda here, at, most: strays.listed(here, which, at, most)
    )
    return answer(Strays(rows.rows, rows.next, rows.missing))


@router.post("/strays/retry", response_model=Changed, openapi_extra=body_of(StrayNames))
async def retry_strays(request: Request) -> Response:
    """Let strays be delivered again by the next sweep. What is still wrong is kept again, under another id."""
    named = await read(request, StrayNames)
    return await _everywhere(gateway_of(request), lambda shard: strays.retry(shard, named.strays))


@router.post("/strays/drop", response_model=Changed, openapi_extra=body_of(StrayNames))
async def drop_strays(request: Request) -> Response:
    """Give strays up for good; those that wait for their shard stay."""
    named = await read(request, StrayNames)
    return await _everywhere(gateway_of(request), lambda shard: strays.give_up(shard, named.strays))


async def _everywhere(gateway: Gateway, work: Callable[[Shard], int]) -> Response:
    on = gateway.lane.cluster.on
    shards = range(gateway.lane.cluster.shard_count)
    found = await gateway.threads.on_each(shards, lambda number: on(number, work))
    done = [one for one in found if not isinstance(one, Unavailable)]
    if not done:
        raise Unavailable("no shard answers")
    missing = tuple(number for number, one in zip(shards, found, strict=True) if isinstance(one, Unavailable))
    return answer(Changed(sum(done), missing))


def _place(name: str) -> tuple[int, int]:
    """The shard of a job, and its number there."""
    shard, number = name.split(".")
    return int(shard), int(number)


def _shards(gateway: Gateway, only: int | None) -> range:
    """All shards, or one.

    Raises:
        NotFound: there is no such shard.
    """
    count = gateway.lane.cluster.shard_count
    if only is None:
        return range(count)
    if only >= count:
        raise NotFound(f"there is no shard {only}: they are numbered from 0 to {count - 1}")
    return range(only, only + 1)
