"""/v1/admin: tenants, keys, and the state of the whole; for the admin key alone."""

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from memlane import __version__
from memlane.contract import Ledger, limits
from memlane.contract.answers import Job, Jobs, KeyRevoked, TenantCreated
from memlane.contract.health import summary
from memlane.contract.live import Live
from memlane.contract.status import (
    KeyStatus,
    NewKey,
    NodeStatus,
    RotatedKey,
    ShardStatus,
    Status,
    TenantLimits,
    TenantStatus,
)
from memlane.contract.text import Clean
from memlane.errors import NotFound, Unavailable
from memlane.gateway import live, overview
from memlane.gateway.auth import admin
from memlane.gateway.bodies import answer, body_of, read
from memlane.gateway.problems import failing
from memlane.gateway.state import Gateway, gateway_of
from memlane.gateway.threads import LOOK_S
from memlane.storage import models, status, tenants, ticks
from memlane.tasks import batch_embed, optimize

router = APIRouter(prefix="/v1/admin", tags=["admin"], dependencies=[Depends(admin)])


class TenantRequest(BaseModel):
    """A tenant to be added.

    Attributes:
        tenant: a-z, 0-9, - and _, at most 63.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    tenant: str


class LimitsRequest(BaseModel):
    """Limits of a tenant to be set; null takes one back, and those that are not named stay as they are.

    Attributes:
        weight: its share of each claim, beside the others'; 1 unless set.
        rate: items that it may hand over in a minute.
        agent_rate: the same, for each of its agents.
        open_jobs: how many of its jobs may be open at once.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    weight: Annotated[int, Field(strict=True, ge=1, le=limits.WEIGHT)] | None = None
    rate: Annotated[int, Field(strict=True, ge=1, le=limits.RATE)] | None = None
    agent_rate: Annotated[int, Field(strict=True, ge=1, le=limits.RATE)] | None = None
    open_jobs: Annotated[int, Field(strict=True, ge=1, le=limits.OPEN_JOBS)] | None = None


class KeyRequest(BaseModel):
    """A key to be made.

    Attributes:
        tenant: whose; the admin's without it.
        label: what it is for.
        lives_s: for how many seconds it is good; for good without it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    tenant: str | None = None
    label: Annotated[str, StringConstraints(max_length=128), Clean] = ""
    lives_s: Annotated[float, Field(strict=True, gt=0, le=limits.KEY_S)] | None = None


class RotateRequest(BaseModel):
    """A key to be replaced.

    Attributes:
        grace_s: for how many seconds it goes on being good; a day unless said, 0 ends it at once.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    grace_s: Annotated[float, Field(strict=True, ge=0, le=limits.KEY_S)] = 86_400.0


@router.get("/tenants", response_model=list[TenantStatus])
async def list_tenants(request: Request) -> Response:
    """All tenants."""
    gateway = gateway_of(request)
    return answer(await gateway.threads.on_control(lambda: tenants.tenants(gateway.lane.cluster.control)))


@router.post("/tenants", status_code=201, response_model=TenantCreated, openapi_extra=body_of(TenantRequest))
async def create_tenant(request: Request) -> dict[str, Any]:
    """Add a tenant; one that is there already stays as it is."""
    gateway = gateway_of(request)
    asked = await read(request, TenantRequest)
    control = gateway.lane.cluster.control
    created = await gateway.threads.on_control(lambda: tenants.create_tenant(control, asked.tenant))
    return {"tenant": asked.tenant, "created": created}


@router.put(
    "/tenants/{tenant}/limits",
    response_model=TenantLimits,
    openapi_extra=body_of(LimitsRequest),
    responses=failing(NotFound),
)
async def set_limits(request: Request, tenant: Annotated[str, Path(description="whose"), Clean]) -> Response:
    """Set limits of a tenant; all that are set then. They hold everywhere within a few seconds."""
    gateway = gateway_of(request)
    asked = await read(request, LimitsRequest)
    cluster = gateway.lane.cluster
    wanted = TenantLimits(**asked.model_dump())
    found = await gateway.threads.on_control(
        lambda: tenants.set_limits(cluster.control, tenant, wanted, asked.model_fields_set)
    )
    cluster.terms.hurry()
    return answer(found)


@router.get("/keys", response_model=list[KeyStatus])
async def list_keys(
    request: Request, tenant: Annotated[Annotated[str, Clean] | None, Query(description="whose")] = None
) -> Response:
    """All keys, or a tenant's, without their secrets."""
    gateway = gateway_of(request)
    return answer(await gateway.threads.on_control(lambda: tenants.keys(gateway.lane.cluster.control, tenant)))


@router.post(
    "/keys",
    status_code=201,
    response_model=NewKey,
    openapi_extra=body_of(KeyRequest),
    responses=failing(NotFound),
)
async def create_key(request: Request) -> Response:
    """Make a key; it is shown this once."""
    gateway = gateway_of(request)
    asked = await read(request, KeyRequest)
    control = gateway.lane.cluster.control
    key = await gateway.threads.on_control(
        lambda: tenants.create_key(control, asked.tenant, asked.label, lives_s=asked.lives_s)
    )
    return answer(NewKey(key), 201)


@router.delete("/keys/{prefix}", response_model=KeyRevoked, responses=failing(NotFound))
async def revoke_key(
    request: Request, prefix: Annotated[str, Path(description="its part between the underscores"), Clean]
) -> dict[str, Any]:
    """Make a key worthless, by the part of it between the underscores."""
    gateway = gateway_of(request)
    await gateway.threads.on_control(lambda: tenants.revoke_key(gateway.lane.cluster.control, prefix))
    gateway.keys.ends(prefix)
    return {"prefix": prefix, "revoked": True}


@router.post(
    "/keys/{prefix}/rotate",
    status_code=201,
    response_model=RotatedKey,
    openapi_extra=body_of(RotateRequest),
    responses=failing(NotFound),
)
async def rotate_key(
    request: Request, prefix: Annotated[str, Clean, Path(description="the part of it between the underscores")]
) -> Response:
    """Make a key in the place of another, which goes on being good for a while; the new one is shown this once."""
    gateway = gateway_of(request)
    asked = await read(request, RotateRequest)
    control = gateway.lane.cluster.control
    made = await gateway.threads.on_control(lambda: tenants.rotate_key(control, prefix, asked.grace_s))
    gateway.keys.ends(prefix, made.left_s)
    return answer(RotatedKey(made.key, prefix, made.left_s), 201)


@router.get("/nodes", response_model=list[NodeStatus])
async def list_nodes(request: Request) -> Response:
    """The servers of each node: which is the primary, and how far the standbys are behind."""
    return answer(await overview.members(gateway_of(request).threads))


@router.get("/shards", response_model=list[ShardStatus])
async def list_shards(request: Request) -> Response:
    """Where each shard lives, and what it holds."""
    return answer(await overview.shards(gateway_of(request)))


@router.post("/shards/{number}/optimize", status_code=202, response_model=Job, responses=failing(NotFound))
async def optimize_shard(request: Request, number: Annotated[int, Path(description="the shard's")]) -> dict[str, Any]:
    """Bring a shard's statistics up to date, and give its large agents their indexes."""
    gateway = gateway_of(request)
    if number not in range(gateway.lane.cluster.shard_count):
        raise NotFound(f"there is no shard {number}")
    job = await gateway.threads.on_shard(number, lambda: optimize.request_shard(gateway.lane, number))
    return {"job": str(job)}


@router.post("/embeddings", status_code=202, response_model=Jobs)
async def embed_missing(request: Request) -> dict[str, Any]:
    """Open jobs for all memories, of all tenants, that have no vector of the current model."""
    gateway = gateway_of(request)
    lane = gateway.lane
    numbers = range(lane.cluster.shard_count)
    opened = await gateway.threads.on_all(numbers, lambda number: batch_embed.open_missing(lane, number, None))
    await gateway.threads.on_control(lambda: models.backfilled(lane.cluster.control, lane.model))
    return {"jobs": sum(opened)}


@router.get("/ledger", response_model=Ledger)
async def read_ledger(request: Request) -> Response:
    """The sums of all tenants: accepted = stored + dropped + parked + open."""
    return answer(await overview.ledger_of(gateway_of(request), None))


@router.get("/status", response_model=Status)
async def read_status(request: Request) -> Response:
    """Nodes, shards, jobs, strays, duties and broker, each as it is now, and how the whole does."""
    gateway = gateway_of(request)
    cluster, threads = gateway.lane.cluster, gateway.threads
    numbers = range(cluster.shard_count)
    looking = asyncio.ensure_future(gateway.health.now())
    nodes, shards, backlogs, strays, duties, broker = await asyncio.gather(
        overview.members(threads),
        overview.shards(gateway),
        threads.on_each(numbers, lambda number: status.backlog_of(cluster, number), LOOK_S),
        threads.on_each(numbers, lambda number: status.strays_of(cluster, number), LOOK_S),
        _duties(gateway),
        asyncio.to_thread(gateway.broker),
    )
    return answer(
        Status(
            version=__version__,
            model=gateway.lane.model.name,
            nodes=nodes,
            shards=shards,
            jobs=status.summed(found for found in backlogs if isinstance(found, list)),
            strays=[stray for found in strays if isinstance(found, list) for stray in found],
            duties=duties,
            broker=broker,
            health=summary(await looking),
        )
    )


@router.get("/live", response_model=Live)
async def read_live(request: Request) -> Response:
    """What all processes have done and how they are, as far as it changes from second to second: for `memlane top`.

    Counts only grow; who asks twice knows what went on between.
    """
    gateway = gateway_of(request)
    control, settings = gateway.lane.cluster.control, gateway.settings
    return answer(await gateway.threads.on_control(lambda: live.look(control, settings.lost_s), LOOK_S))


async def _duties(gateway: Gateway) -> list[Any]:
    try:
        return list(await gateway.threads.on_control(lambda: ticks.last(gateway.lane.cluster.control)))
    except Unavailable:
        return []
