"""What stands in a URL: an agent's name in the path, taken whole, and parameters, of which only known ones pass."""

from fastapi import Request
from fastapi.routing import APIRoute
from starlette.convertors import Convertor, register_url_convertor

from memlane.contract import limits
from memlane.errors import FieldError, InvalidInput


class _Whole(Convertor[str]):
    """Takes in slashes, and also a line break, which Starlette's own convertor cuts off."""

    regex = r"[\s\S]*"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("whole", _Whole())

AGENT = "{agent:whole}"
"""The place of an agent's name in a path."""


async def known_only(request: Request) -> None:
    """Let a request through whose query parameters its endpoint knows: a misspelled filter would not filter.

    Raises:
        InvalidInput: names those that it does not know.
    """
    if request.query_params:
        route: APIRoute = request.scope["route"]
        unknown = sorted(set(request.query_params) - {field.alias for field in route.dependant.query_params})
        if unknown:
            raise InvalidInput(
                [FieldError(name, "is not a parameter of this request") for name in unknown[: limits.FIELDS]]
            )
