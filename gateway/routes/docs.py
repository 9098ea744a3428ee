"""/docs: the API described for people; it needs no key, as /openapi.json needs none."""

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from memlane.gateway.description import read_description
from memlane.gateway.page import POLICY, docs_page

router = APIRouter()


@router.get("/docs", include_in_schema=False)
async def docs(request: Request) -> HTMLResponse:
    """The page."""
    made = docs_page(read_description(request.app.openapi()))
    return HTMLResponse(made, headers={"Content-Security-Policy": POLICY, "X-Content-Type-Options": "nosniff"})
