"""/v1/recall and /v1/embeddings: ask, and prepare for being asked."""

from time import perf_counter
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from memlane.contract import Recalled, RecallRequest
from memlane.contract.answers import Jobs
from memlane.contract.requests import EmbeddingsRequest
from memlane.gateway.auth import tenant
from memlane.gateway.bodies import answer, body_of, read
from memlane.gateway.operations import operation
from memlane.gateway.recalls import recalled
from memlane.gateway.state import Gateway, gateway_of
from memlane.storage.spending import Group
from memlane.tasks import batch_embed
from memlane.tasks.hooks import Operation
from memlane.tasks.recall import Question

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
    made = await gateway.questions.vector(Group(tenant, asked.agent or ""), asked.query)
    embedded = perf_counter()
    with gateway.lane.hooks.around(Operation("search", tenant, shard)):
        found = await recalled(gateway, Question(tenant, asked, made.vector, made.refusal))
    for number, accesses in found.accesses.items():
        gateway.tally.accessed(number, accesses)
    response = answer(found.recalled)
    times_ms = (embedded - begun) * 1000, (perf_counter() - embedded) * 1000
    gateway.tally.log.note(asked.query, found, sum(times_ms), cached=made.cached)
    response.headers["Server-Timing"] = "embed;dur={:.2f}, search;dur={:.2f}".format(*times_ms)
    return response


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
