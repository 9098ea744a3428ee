"""/v1/health: how the whole does, for the admin key alone; the probes beside it need none."""

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from memlane.contract.health import Health
from memlane.gateway.auth import admin
from memlane.gateway.bodies import answer
from memlane.gateway.state import gateway_of

router = APIRouter(prefix="/v1/health", tags=["admin"], dependencies=[Depends(admin)])


@router.get("", response_model=Health)
async def read_health(request: Request) -> Response:
    """The score of each component and of the whole, what is wrong, and what to do next.

    It is looked at when asked, once a second at most, and answered within two seconds, whatever hangs.
    """
    return answer(await gateway_of(request).health.now())
