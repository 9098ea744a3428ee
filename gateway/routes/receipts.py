"""/v1/receipts: how far memories have come."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response

from memlane.contract import Receipt, State, limits
from memlane.contract.requests import MemoryName, ReceiptsRequest
from memlane.contract.text import Name
from memlane.errors import NotFound
from memlane.gateway.auth import tenant
from memlane.gateway.bodies import answer, body_of, read
from memlane.gateway.looking import Seen
from memlane.gateway.parameters import AGENT
from memlane.gateway.problems import failing
from memlane.gateway.state import Gateway, gateway_of
from memlane.storage.ids import Key

router = APIRouter(tags=["receipts"])

Tenant = Annotated[str, Depends(tenant)]


@router.get(f"/v1/receipts/{AGENT}/{{id}}", response_model=Receipt, responses=failing(NotFound))
async def receipt(
    request: Request,
    tenant: Tenant,
    agent: Name,
    id: UUID,
    wait: Literal["stored", "searchable"] | None = None,
    timeout: Annotated[float, Query(ge=0, le=limits.WAIT_S, allow_inf_nan=False)] = 10.0,
) -> Response:
    """How far a memory has come; with `wait`, when it has reached that state or the time is up."""
    found = await _states(gateway_of(request), tenant, [MemoryName(agent=agent, id=id)], wait, timeout)
    if not found:
        raise NotFound(f"nothing was accepted under id {id} of this agent")
    return answer(found[0])


@router.post("/v1/receipts", response_model=list[Receipt], openapi_extra=body_of(ReceiptsRequest))
async def receipts(request: Request, tenant: Tenant) -> Response:
    """How far up to 1,000 memories have come; unknown ones are left out."""
    asked = await read(request, ReceiptsRequest)
    found = await _states(gateway_of(request), tenant, asked.receipts, asked.wait, asked.timeout)
    return answer(found)


async def _states(
    gateway: Gateway, tenant: str, names: Sequence[MemoryName], wait: str | None, timeout: float
) -> list[Receipt]:
    shards: dict[int, list[MemoryName]] = {}
    for name in names:
        shards.setdefault(gateway.lane.cluster.shard_of(tenant, name.agent), []).append(name)
    found = await asyncio.gather(
        *(_on_shard(gateway, tenant, shard, part, wait, timeout) for shard, part in shards.items())
    )
    by_name = {(r.agent, r.id): r for part in found for r in part}
    return [by_name[name.agent, name.id] for name in names if (name.agent, name.id) in by_name]


async def _on_shard(
    gateway: Gateway, tenant: str, shard: int, names: Sequence[MemoryName], wait: str | None, timeout: float
) -> list[Receipt]:
    lane = gateway.lane
    agents = {name.agent for name in names}
    numbers: Mapping[str, int] = lane.numbers.known(shard, tenant, agents)
    if len(numbers) < len(agents):
        numbers = await gateway.threads.on_shard(
            shard,
            lambda: lane.cluster.on(shard, lambda here: lane.numbers.of(here, tenant, agents, register=False)),
        )
    keys: dict[Key, MemoryName] = {(numbers[n.agent], n.id): n for n in names if n.agent in numbers}
    known: Seen
    if wait is None:
        known = await gateway.waiters.look(shard, list(keys))
    else:
        known = await gateway.waiters.wait(shard, list(keys), State(wait), timeout)
    return [Receipt(keys[key].id, keys[key].agent, state, error=error) for key, (state, error) in known.items()]
