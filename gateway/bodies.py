"""Bodies: read up to a limit and for so long, parsed once, checked against the contract."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any, TypeVar

from fastapi import Request
from fastapi.responses import Response
from pydantic import BaseModel
from starlette.requests import ClientDisconnect

from memlane.config.settings import Settings
from memlane.contract import wire
from memlane.contract.parsing import parse
from memlane.errors import FieldError, InvalidInput, Malformed, TooLarge, TooSlow
from memlane.gateway.docstrings import Docstring
from memlane.gateway.problems import failing

M = TypeVar("M", bound=BaseModel)

_DIGITS = 20
"""As many digits of an announced length are looked at: Python refuses to read thousands of them."""


async def read_json(request: Request) -> Any:
    """The body of a request.

    Raises:
        TooLarge: it is over the limit; no more of it is read.
        TooSlow: it did not arrive in time.
        Malformed: it is not JSON, or not all of it came.
    """
    settings: Settings = request.app.state.gateway.settings
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise Malformed([FieldError("body", "must not be compressed")])
    try:
        async with asyncio.timeout(settings.body_s):
            body = await _read(request, settings.max_body_bytes)
    except TimeoutError:
        raise TooSlow([FieldError("body", f"did not arrive within {settings.body_s:g} s")]) from None
    except ClientDisconnect:
        raise Malformed([FieldError("body", "is not all there")]) from None
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        where = f" at byte {error.pos}" if isinstance(error, json.JSONDecodeError) else ""
        raise Malformed([FieldError("body", f"is not JSON{where}")]) from None


async def _read(request: Request, limit: int) -> bytearray:
    """All bytes; more than the limit are not even begun with where they are announced."""
    announced = request.headers.get("content-length", "")
    if announced.isascii() and announced.isdecimal() and int(announced[:_DIGITS]) > limit:
        raise _too_large(limit)
    body = bytearray()
    async for part in request.stream():
        if len(body) + len(part) > limit:
            raise _too_large(limit)
        body += part
    return body


async def read(request: Request, model: type[M]) -> M:
    """The body of a request as a value of the contract.

    Raises:
        InvalidInput: names each field that is wrong.
    """
    raw = await read_json(request)
    if not isinstance(raw, dict):
        raise InvalidInput([FieldError("body", "must be an object")])
    return parse(model, raw)


def answer(value: object, status: int = 200) -> Response:
    """A value of the contract as the answer."""
    return Response(wire.dump(value), status, media_type="application/json")


def body_of(model: type[BaseModel]) -> dict[str, Any]:
    """The OpenAPI description of a body that `read` reads, and of its refusals."""
    return described(schema_of(model))


def described(schema: Mapping[str, Any], meaning: str = "") -> dict[str, Any]:
    """The OpenAPI description of a body with this schema."""
    body: dict[str, Any] = {"required": True, "content": {"application/json": {"schema": schema}}}
    return {
        "requestBody": {"description": meaning, **body} if meaning else body,
        "responses": {str(status): answer for status, answer in failing(Malformed, TooLarge, TooSlow).items()},
    }


def schema_of(model: type[BaseModel]) -> dict[str, Any]:
    """A reference to a model's schema, with the schemas that it needs."""
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    needed = schema.pop("$defs", {})
    for above in model.__mro__:
        for name, meaning in Docstring.of(vars(above).get("__doc__")).attributes.items():
            schema["properties"].get(name, {}).setdefault("description", meaning)
    return {"$ref": f"#/components/schemas/{model.__name__}", "$defs": {**needed, model.__name__: schema}}


def _too_large(limit: int) -> TooLarge:
    return TooLarge([FieldError("body", f"must be at most {limit} bytes")])
