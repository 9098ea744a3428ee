"""The straight way: requests that come by the thousand go to their endpoints without FastAPI's machinery.

Finding a route, solving its dependencies and passing through all middleware takes longer than our own work on such a
request. Their endpoints are declared as ever, and described; a request that has parameters goes the ordinary way.
"""

from collections.abc import Iterable

from fastapi import APIRouter, Request
from fastapi.routing import APIRoute
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from memlane.errors import MemlaneError
from memlane.gateway import problems
from memlane.gateway.auth import tenant
from memlane.gateway.metrics import Measured, Metrics
from memlane.gateway.unread import CloseUnread

_PATHS = ("/v1/memories", "/v1/receipts", "/v1/recall")
"""What is posted there goes straight: the endpoints take a request and the tenant whose key it carries."""


class Straight:
    """The endpoints that are gone straight to, with the same middleware of ours around them.

    Args:
        routers: of the app.
        metrics: told of each request.
    """

    def __init__(self, routers: Iterable[APIRouter], metrics: Metrics) -> None:
        routes = [route for router in routers for route in router.routes if isinstance(route, APIRoute)]
        self._routes = {
            route.path: route for route in routes if "POST" in (route.methods or ()) and route.path in _PATHS
        }
        inner: ASGIApp = CloseUnread(Measured(self._answer, metrics=metrics))
        self._app = ServerErrorMiddleware(inner, handler=problems.unexpected)

    def serves(self, scope: Scope) -> bool:
        """Whether a request goes straight to its endpoint."""
        return scope.get("method") == "POST" and scope["path"] in self._routes and not scope["query_string"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request that it serves."""
        await self._app(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        route = scope["route"] = self._routes[scope["path"]]
        request = Request(scope, receive, send)
        try:
            response = await route.endpoint(request, await tenant(request))
        except MemlaneError as error:
            response = await problems.ours(request, error)
        await response(scope, receive, send)
