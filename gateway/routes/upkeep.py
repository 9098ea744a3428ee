"""/v1/admin/vacuums, /knobs, /tunings, /indexes: what vacuum did, what auto-tune turns, large agents' indexes."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.responses import Response

from memlane.contract.text import Name
from memlane.contract.upkeep import AgentIndex, Knob, KnobRequest, KnobStatus, Tuning, Vacuumed
from memlane.gateway.auth import admin
from memlane.gateway.bodies import answer, body_of, read
from memlane.gateway.state import gateway_of
from memlane.storage import indexes, knobs, vacuum

router = APIRouter(prefix="/v1/admin", tags=["admin"], dependencies=[Depends(admin)])

Limit = Annotated[int, Query(ge=1, le=1000, description="how many at most")]
OnShard = Annotated[int | None, Query(ge=0, le=255, description="of this shard alone")]
Relation = Annotated[Name | None, Query(description="of this table or index alone")]
Which = Annotated[Knob, Path(description="which knob")]


@router.get("/vacuums", response_model=list[Vacuumed])
async def list_vacuums(
    request: Request, limit: Limit = 100, shard: OnShard = None, relation: Relation = None
) -> Response:
    """What was done to tables and indexes within a week, the latest first."""
    gateway = gateway_of(request)
    control = gateway.lane.cluster.control
    return answer(await gateway.threads.on_control(lambda: vacuum.done(control, limit, shard, relation)))


@router.get("/knobs", response_model=list[KnobStatus])
async def list_knobs(request: Request) -> Response:
    """How each knob stands, and who turned it."""
    gateway = gateway_of(request)
    lane = gateway.lane
    return answer(await gateway.threads.on_control(lambda: knobs.status(lane.cluster.control, lane.settings)))


@router.put("/knobs/{knob}", response_model=KnobStatus, openapi_extra=body_of(KnobRequest))
async def set_knob(request: Request, knob: Which) -> Response:
    """Set a knob by hand, within its bounds; auto-tune leaves it alone from then on. It holds within a few seconds."""
    gateway = gateway_of(request)
    asked = await read(request, KnobRequest)
    lane = gateway.lane
    found = await gateway.threads.on_control(
        lambda: knobs.set_by_hand(lane.cluster.control, lane.settings, knob, asked.value)
    )
    lane.cluster.knobs.hurry()
    return answer(found)


@router.delete("/knobs/{knob}", response_model=KnobStatus)
async def reset_knob(request: Request, knob: Which) -> Response:
    """Let a knob stand as the settings say; auto-tune may turn it from there."""
    gateway = gateway_of(request)
    lane = gateway.lane
    found = await gateway.threads.on_control(lambda: knobs.reset(lane.cluster.control, lane.settings, knob))
    lane.cluster.knobs.hurry()
    return answer(found)


@router.get("/tunings", response_model=list[Tuning])
async def list_tunings(request: Request, limit: Limit = 100) -> Response:
    """The turns of knobs within 90 days, the latest first: what was measured, and what became of each."""
    gateway = gateway_of(request)
    control = gateway.lane.cluster.control
    return answer(await gateway.threads.on_control(lambda: knobs.history(control, limit)))


@router.get("/indexes", response_model=list[AgentIndex])
async def list_indexes(request: Request) -> Response:
    """The indexes of large agents, those that miss most first: how they were built, and how well they answer."""
    gateway = gateway_of(request)
    lane = gateway.lane

    def of_shard(number: int) -> list[AgentIndex]:
        return lane.cluster.on(number, lambda shard: indexes.shown(shard, lane.model.name))

    found = [one for shard in await gateway.threads.on_all(range(lane.cluster.shard_count), of_shard) for one in shard]
    return answer(sorted(found, key=lambda one: 1.0 if one.recall is None else one.recall))
