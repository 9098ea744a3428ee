"""/healthz, /readyz, /metrics: for those who watch the process; they need no key."""

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST

from memlane.contract.answers import Alive, Ready
from memlane.gateway.state import gateway_of

router = APIRouter(tags=["probes"])


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
    """Prometheus series; what they say of nodes and shards was looked at in the background."""
    gateway = gateway_of(request)
    await gateway.refreshing.begun()
    return Response(gateway.metrics.render(), media_type=CONTENT_TYPE_LATEST)
