"""/healthz, /readyz, /metrics: for those who watch the process; they need no key."""

from contextlib import suppress
from time import monotonic
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST

from memlane.contract.answers import Alive, Ready
from memlane.errors import MemlaneError
from memlane.gateway.state import Gateway, gateway_of
from memlane.gateway.threads import LOOK_S
from memlane.storage import status

router = APIRouter(tags=["probes"])

_BACKLOG_EVERY_S = 5.0
"""How often the shards are asked for their backlog, however often /metrics is read."""


@router.get("/healthz", response_model=Alive)
async def healthz() -> dict[str, Any]:
    """The process lives."""
    return {"status": "alive"}


@router.get("/readyz", response_model=Ready, responses={503: {"model": Ready, "description": "No node answers."}})
async def readyz(request: Request) -> JSONResponse:
    """Whether requests would be served: 200 if at least one node answers, and which do not."""
    found = await gateway_of(request).nodes.now()
    down = [node.name for node in found if not node.up]
    ready = len(down) < len(found)
    return JSONResponse({"ready": ready, "nodes_down": down}, 200 if ready else 503)


@router.get("/metrics", response_class=PlainTextResponse)
async def metrics(request: Request) -> Response:
    """Prometheus series."""
    gateway = gateway_of(request)
    await _refresh(gateway)
    return Response(gateway.metrics.render(), media_type=CONTENT_TYPE_LATEST)


async def _refresh(gateway: Gateway) -> None:
    if monotonic() - gateway.metrics.backlog_at < _BACKLOG_EVERY_S:
        return
    gateway.metrics.backlog_at = monotonic()
    cluster = gateway.lane.cluster
    numbers = range(cluster.shard_count)
    found = await gateway.threads.on_each(numbers, lambda number: status.backlog_of(cluster, number), LOOK_S)
    gateway.metrics.backlog(one if isinstance(one, list) else None for one in found)
    with suppress(MemlaneError):  # what control said before stays
        await gateway.threads.on_control(
            lambda: gateway.metrics.spent.look(cluster.control, gateway.settings.alert_percents), LOOK_S
        )
    kept = await gateway.threads.on_each(numbers, lambda number: status.strays_of(cluster, number), LOOK_S)
    gateway.metrics.strays(stray for one in kept if isinstance(one, list) for stray in one)
