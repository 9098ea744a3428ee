"""/v1/recall and /v1/embeddings: ask, and prepare for being asked."""

from time import perf_counter
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from memlane.contract import Recalled, RecallRequest
from memlane.contract.answers import Jobs
from memlane.contract.requests import EmbeddingsRequest
from memlane.gateway.auth import tenant
from memlane.gateway.bodies import body_of, read
from memlane.gateway.given import given
from memlane.gateway.operations import operation
from memlane.gateway.state import Gateway, gateway_of
from memlane.tasks import batch_embed
from memlane.tasks.caches.levels import Kind

router = APIRouter(tags=["recall"])

Tenant = Annotated[str, Depends(tenant)]


@router.post("/v1/recall", response_model=Recalled, openapi_extra=body_of(RecallRequest))
async def recall(request: Request, tenant: Tenant) -> Response:
    """The memories that answer a question best, by meaning and by words; an unknown agent has none.

    Of several agents those that cannot be asked are named in `missing`; where none can, it is a 503.
    """
    gateway = gateway_of(request)
    asked = await read(request, RecallRequest)
    shard = gateway.lane.cluster.shard_of(tenant, asked.agent) if asked.agent else None
    with gateway.lane.hooks.around(operation(request, "recall", tenant, shard)):
        return await _recall(gateway, tenant, asked, shard)


async def _recall(gateway: Gateway, tenant: str, asked: RecallRequest, shard: int | None) -> Response:
    begun = perf_counter()
    wanted = None
    if asked.agent is not None and shard is not None:
        wanted = await gateway.answers.wanted(Kind.RECALLS, tenant, asked.agent, asked, shard)
    look_ms = (perf_counter() - begun) * 1000
    found = await given(gateway, tenant, asked, wanted)
    for number, accesses in found.accesses.items():
        gateway.tally.accessed(number, accesses)
    ms = (perf_counter() - begun) * 1000
    for agent, hits in found.hits.items():
        gateway.tally.log.note(asked.query, agent, hits, ms, cached=found.known)
    times_ms = found.embed_ms, look_ms, max(0.0, ms - look_ms - found.embed_ms)
    timing = "embed;dur={:.2f}, look;dur={:.2f}, search;dur={:.2f}".format(*times_ms)
    return Response(found.body, media_type="application/json", headers={"Server-Timing": timing})


@router.post("/v1/embeddings", status_code=202, response_model=Jobs, openapi_extra=body_of(EmbeddingsRequest))
async def embeddings(request: Request, tenant: Tenant) -> dict[str, Any]:
    """Make vectors ahead: of texts, for the cache, or of the memories that have none of the current model."""
    gateway = gateway_of(request)
    asked = await read(request, EmbeddingsRequest)
    lane = gateway.lane
    parts = batch_embed.place(lane, tenant, asked)
    with lane.hooks.around(operation(request, "batch_embed", tenant)):
        opened = await gateway.threads.on_all(
            parts, lambda number: batch_embed.on_shard(lane, tenant, asked, number, parts[number])
        )
    return {"jobs": sum(opened)}
