"""/v1/memories: hand over, read, list, forget."""

import asyncio
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response

from memlane.contract import (
    BatchResult,
    Embedding,
    Memory,
    MemoryItem,
    MemoryUpdate,
    Page,
    PageRequest,
    Receipt,
    Rejection,
    State,
    Use,
    Version,
    limits,
)
from memlane.contract.parsing import parse, parse_items
from memlane.contract.rejecting import rejection_of
from memlane.contract.text import Name
from memlane.errors import (
    BudgetExceeded,
    Conflict,
    FieldError,
    InvalidInput,
    MemlaneError,
    NotFound,
    RateLimited,
    Unavailable,
)
from memlane.gateway.auth import tenant
from memlane.gateway.bodies import answer, body_of, described, read, read_json, schema_of
from memlane.gateway.operations import operation
from memlane.gateway.parameters import AGENT
from memlane.gateway.problems import failing, headers_for, status_of
from memlane.gateway.state import Gateway, gateway_of
from memlane.storage import memories, update
from memlane.storage.cluster import Shard
from memlane.tasks import accept, forget
from memlane.tasks.accept import Part, Result
from memlane.tasks.caches.levels import Kind
from memlane.tasks.lane import Lane
from memlane.tasks.update import update_memory as update_stored

router = APIRouter(tags=["memories"])

Tenant = Annotated[str, Depends(tenant)]

_STORED_S = 5.0
"""How long an update waits for a memory that was accepted to be stored."""

_MANY = {
    "type": "object",
    "description": "A batch: good items are accepted, bad ones listed by index.",
    "required": ["memories"],
    "additionalProperties": False,
    "properties": {
        "memories": {
            "type": "array",
            "minItems": 1,
            "maxItems": limits.BATCH_ITEMS,
            "description": "The items, at most 1,000.",
            "items": {"$ref": "#/components/schemas/MemoryItem"},
        },
        "atomic": {
            "type": "boolean",
            "default": False,
            "description": "All or none; the items have to belong to one agent.",
        },
    },
}

_ONE_OR_MANY = described(
    {"oneOf": [schema_of(MemoryItem), {"$ref": "#/components/schemas/MemoryBatch", "$defs": {"MemoryBatch": _MANY}}]}
)


@router.post(
    "/v1/memories",
    status_code=202,
    openapi_extra=_ONE_OR_MANY,
    response_model=Receipt | BatchResult,
    responses={
        200: {"model": Receipt | BatchResult, "description": "All of it was durable before."},
        **failing(Conflict, BudgetExceeded, RateLimited),
    },
)
async def remember(request: Request, tenant: Tenant) -> Response:
    """Hand over one memory or a batch. 202: durable; 200: all of it was durable before."""
    try:
        response = await _remember(request, tenant)
    except InvalidInput:
        await gateway_of(request).rating.show(request, tenant)
        raise
    response.headers.update(headers_for(request) or {})
    return response


async def _remember(request: Request, tenant: str) -> Response:
    body = await read_json(request)
    many = body.get("memories") if isinstance(body, dict) else None
    items = len(many) if isinstance(many, list) else 1
    with gateway_of(request).lane.hooks.around(operation(request, "remember", tenant, items=items)):
        return await _taken_in(request, tenant, body)


async def _taken_in(request: Request, tenant: str, body: Any) -> Response:
    gateway = gateway_of(request)
    try:
        if isinstance(body, dict) and "memories" in body:
            return await _remember_many(request, tenant, body)
        item = parse(MemoryItem, body)
    except InvalidInput as error:
        gateway.tally.rejected(tenant, len({field.index for field in error.fields}) or 1)
        raise
    result = (await _accept(request, tenant, [item], atomic=False))[0]
    if isinstance(result, MemlaneError):
        raise result
    return answer(result, 202 if result.state is State.ACCEPTED else 200)


async def _remember_many(request: Request, tenant: str, body: dict[str, Any]) -> Response:
    gateway = gateway_of(request)
    raw, atomic = _batch(body)
    parsed = parse_items(raw)
    if parsed.errors and (atomic or not parsed.items):
        raise InvalidInput(parsed.errors)
    gateway.tally.rejected(tenant, len(raw) - len(parsed.items))
    results = await _accept(request, tenant, parsed.items, atomic=atomic)
    receipts: list[Receipt | None] = [None] * len(raw)
    rejections = [Rejection(e.index or 0, 422, e.detail, e.field) for e in parsed.errors]
    for place, result in zip(parsed.places, results, strict=True):
        if isinstance(result, MemlaneError):
            rejections.append(rejection_of(place, status_of(result)[0], result))
        else:
            receipts[place] = result
    _raise_if_all_failed(receipts, results)
    gateway.tally.rejected(tenant, sum(isinstance(result, InvalidInput) for result in results))
    new = any(receipt and receipt.state is State.ACCEPTED for receipt in receipts)
    return answer(BatchResult.of(receipts, rejections), 202 if new else 200)


def _batch(body: dict[str, Any]) -> tuple[list[Any], bool]:
    """The items of a batch, and whether it is all or none."""
    raw, atomic = body["memories"], body.get("atomic", False)
    if unknown := sorted(body.keys() - {"memories", "atomic"})[: limits.FIELDS]:
        raise InvalidInput([FieldError(name, "is not a field of a batch") for name in unknown])
    if not isinstance(raw, list) or not raw:
        raise InvalidInput([FieldError("memories", "must be a list with at least one item")])
    if len(raw) > limits.BATCH_ITEMS:
        raise InvalidInput([FieldError("memories", f"must be at most {limits.BATCH_ITEMS} items, is {len(raw)}")])
    if not isinstance(atomic, bool):
        raise InvalidInput([FieldError("atomic", "must be true or false")])
    return raw, atomic


async def _accept(request: Request, tenant: str, items: Sequence[MemoryItem], *, atomic: bool) -> list[Result]:
    """Accept items that their rates let through, on all shards side by side; results are in the order of the items."""
    gateway = gateway_of(request)
    rated = await gateway.rating.take(request, tenant, items)
    if atomic and rated.refused:
        gateway.metrics.refused(next(iter(rated.refused.values())), len(items))
        raise next(iter(rated.refused.values()))
    results: dict[int, Result] = {
        place: rated.refused[item.agent] for place, item in enumerate(items) if item.agent in rated.refused
    }
    let_through = [place for place in range(len(items)) if place not in results]
    accepted = await _on_shards(gateway, tenant, [items[place] for place in let_through], atomic)
    results |= {let_through[place]: result for place, result in accepted.items()}
    gateway.tally.rejected(tenant, sum(isinstance(result, BudgetExceeded) for result in results.values()))
    gateway.metrics.took_in(
        Counter(status_of(one)[1] if isinstance(one, MemlaneError) else one.state.value for one in results.values())
    )
    for result in results.values():
        if isinstance(result, MemlaneError):
            gateway.metrics.refused(result)
    return [results[place] for place in range(len(items))]


async def _on_shards(gateway: Gateway, tenant: str, items: Sequence[MemoryItem], atomic: bool) -> dict[int, Result]:
    """Accept items on their shards; the results by place."""
    lane = gateway.lane
    parts = accept.place(lane, tenant, items, atomic=atomic)
    if atomic:
        ((shard, part),) = parts.items()
        return await gateway.threads.on_shard(shard, lambda: accept.on_shard(lane, tenant, shard, part, atomic))
    taken = [_taken(gateway, Part(tenant, shard, part)) for shard, part in parts.items()]
    found = [await taken[0]] if len(taken) == 1 else await asyncio.gather(*taken)
    return {place: result for results in found for place, result in results.items()}


async def _taken(gateway: Gateway, part: Part) -> dict[int, Result]:
    """The results of a part by place; where nothing of it could be taken in, each says why."""
    try:
        return await gateway.groups.take(part)
    except Unavailable as error:
        return dict.fromkeys((placed.place for placed in part.items), error)


def _raise_if_all_failed(receipts: Sequence[Receipt | None], results: Sequence[Result]) -> None:
    """A batch of which nothing could be taken in because something is down, or all is over a limit, is answered so."""
    if any(receipts):
        return
    for result in results:
        if isinstance(result, Unavailable):
            raise result
    kinds = {type(result) for result in results}
    if len(results) == len(receipts) and len(kinds) == 1 and isinstance(results[0], BudgetExceeded | InvalidInput):
        raise results[0]


@router.get("/v1/memories", response_model=Page)
async def list_memories(
    request: Request,
    tenant: Tenant,
    agent: Name,
    limit: Annotated[int, Query(ge=1, le=limits.PAGE_ITEMS, description="how many at most")] = 50,
    cursor: Annotated[str | None, Query(description="`next` of the page before")] = None,
    kind: Annotated[list[str] | None, Query(description="one of these")] = None,
    tag: Annotated[list[str] | None, Query(description="all of these")] = None,
    since: str | None = None,
    until: str | None = None,
    thread: str | None = None,
    metadata: Annotated[str | None, Query(description="a JSON object that has to be contained")] = None,
    min_importance: float = 0.0,
    pinned: bool | None = None,
    include_superseded: Annotated[bool, Query(description="also those whose place a newer one has taken")] = False,
    oldest_first: Annotated[bool, Query(description="else newest first")] = False,
    vectors: Annotated[bool, Query(description="each with its vector")] = False,
) -> Response:
    """An agent's memories, newest first unless told otherwise; an unknown agent has none."""
    gateway = gateway_of(request)
    named = {"kinds": kind or (), "tags": tag or (), "since": since, "until": until, "thread": thread}
    more = {"pinned": pinned, "include_superseded": include_superseded, "min_importance": min_importance}
    how = {"agent": agent, "limit": limit, "cursor": cursor, "oldest_first": oldest_first, "vectors": vectors}
    wanted = parse(PageRequest, {**named, **more, **how, "metadata": _json(metadata)})
    lane = gateway.lane
    shard = lane.cluster.shard_of(tenant, agent)

    def work(here: Shard) -> Page:
        found, cursor = memories.page(here, tenant, wanted)
        listed = _with_vectors(lane, here, tenant, agent, found) if vectors else [memory for _, memory in found]
        return Page(tuple(listed), cursor)

    with lane.hooks.around(operation(request, "list", tenant, shard)):
        here = await gateway.answers.wanted(Kind.LISTS, tenant, agent, wanted, shard)
        kept = None if here is None else await gateway.answers.known(here)
        if kept is not None:
            return Response(kept.body, media_type="application/json")
        page = await gateway.threads.on_shard(shard, lambda: lane.cluster.on(shard, work))
        listed = answer(page)
        if here is not None:
            gateway.answers.keep(here, bytes(listed.body), (), page.memories)
        return listed


def _with_vectors(
    lane: Lane, shard: Shard, tenant: str, agent: str, found: Sequence[tuple[int, Memory]]
) -> list[Memory]:
    """Memories with their vectors; those that have none yet stay without."""
    vectors = memories.vectors(shard, tenant, agent, [number for number, _ in found], lane.table)
    return [
        replace(memory, embedding=Embedding(model=lane.model.name, vector=tuple(vectors[number].tolist())))
        if number in vectors
        else memory
        for number, memory in found
    ]


@router.get(f"/v1/memories/{AGENT}/{{id}}/history", response_model=list[Version], responses=failing(NotFound))
async def read_history(request: Request, tenant: Tenant, agent: Name, id: UUID) -> Response:
    """What a memory said before, newest first; nothing if it was never updated."""
    gateway = gateway_of(request)
    on = gateway.lane.cluster.on
    shard = gateway.lane.cluster.shard_of(tenant, agent)

    def work(here: Shard) -> list[Version] | None:
        return update.history(here, tenant, agent, id) if memories.by_id(here, tenant, agent, id) else None

    found = await gateway.threads.on_shard(shard, lambda: on(shard, work))
    if found is None:
        raise NotFound(f"there is no memory {id} of this agent")
    return answer(found)


@router.get(f"/v1/memories/{AGENT}/{{id}}/use", response_model=Use, responses=failing(NotFound))
async def read_use(request: Request, tenant: Tenant, agent: Name, id: UUID) -> Response:
    """How a memory was used: how often it was recalled, what that still counts for, and how fresh it is."""
    gateway = gateway_of(request)
    on = gateway.lane.cluster.on
    shard = gateway.lane.cluster.shard_of(tenant, agent)
    found = await gateway.threads.on_shard(shard, lambda: on(shard, lambda here: memories.use(here, tenant, agent, id)))
    if found is None:
        raise NotFound(f"there is no memory {id} of this agent")
    return answer(found)


@router.patch(
    f"/v1/memories/{AGENT}/{{id}}",
    response_model=Memory,
    openapi_extra=body_of(MemoryUpdate),
    responses=failing(NotFound, Conflict),
)
async def update_memory(request: Request, tenant: Tenant, agent: Name, id: UUID) -> Response:
    """Change fields of a memory; new content keeps its id and its history, and gets a new vector.

    A memory that is not stored yet is waited for briefly.
    """
    gateway = gateway_of(request)
    wanted = await read(request, MemoryUpdate)
    shard = gateway.lane.cluster.shard_of(tenant, agent)
    with gateway.lane.hooks.around(operation(request, "update", tenant, shard)):
        await _stored(gateway, tenant, shard, agent, id)
        found = await gateway.threads.on_shard(shard, lambda: update_stored(gateway.lane, tenant, agent, id, wanted))
        if found is None:
            raise NotFound(f"there is no memory {id} of this agent")
    return answer(found)


async def _stored(gateway: Gateway, tenant: str, shard: int, agent: str, id_: UUID) -> None:
    """Wait until a memory is stored, for a moment."""
    lane = gateway.lane
    find = partial(lane.numbers.of, tenant=tenant, agents=[agent], register=False)
    numbers = await gateway.threads.on_shard(shard, lambda: lane.cluster.on(shard, find))
    await gateway.waiters.wait(shard, [(number, id_) for number in numbers.values()], State.STORED, _STORED_S)


@router.get(f"/v1/memories/{AGENT}/{{id}}", response_model=Memory, responses=failing(NotFound))
async def read_memory(request: Request, tenant: Tenant, agent: Name, id: UUID) -> Response:
    """One memory by its id."""
    gateway = gateway_of(request)
    on = gateway.lane.cluster.on
    shard = gateway.lane.cluster.shard_of(tenant, agent)
    with gateway.lane.hooks.around(operation(request, "read", tenant, shard)):
        found = await gateway.threads.on_shard(
            shard, lambda: on(shard, lambda here: memories.by_id(here, tenant, agent, id))
        )
    if found is None:
        raise NotFound(f"there is no memory {id} of this agent")
    return answer(found)


@router.delete(f"/v1/memories/{AGENT}/{{id}}", response_model=Receipt, responses=failing(NotFound))
async def forget_memory(request: Request, tenant: Tenant, agent: Name, id: UUID) -> Response:
    """Forget one memory for good: whatever arrives later, it stays forgotten."""
    gateway = gateway_of(request)
    shard = gateway.lane.cluster.shard_of(tenant, agent)
    with gateway.lane.hooks.around(operation(request, "forget", tenant, shard)):
        known = await gateway.threads.on_shard(shard, lambda: forget.forget_memory(gateway.lane, tenant, agent, id))
        if not known:
            raise NotFound(f"there is no memory {id} of this agent")
    return answer(Receipt(id, agent, State.FORGOTTEN))


def _json(metadata: str | None) -> Any:
    try:
        return json.loads(metadata) if metadata is not None else {}
    except (ValueError, RecursionError):
        raise InvalidInput([FieldError("metadata", "is not JSON")]) from None
