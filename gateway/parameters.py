"""Query parameters: one that is misspelled would be a filter that does not filter, so it is refused."""

from fastapi import Request
from fastapi.routing import APIRoute

from memlane.errors import FieldError, InvalidInput


async def known_only(request: Request) -> None:
    """Let a request through whose query parameters its endpoint knows.

    Raises:
        InvalidInput: names those that it does not know.
    """
    if request.query_params:
        route: APIRoute = request.scope["route"]
        unknown = sorted(set(request.query_params) - {field.alias for field in route.dependant.query_params})
        if unknown:
            raise InvalidInput([FieldError(name, "is not a parameter of this request") for name in unknown])
