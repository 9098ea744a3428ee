"""Errors as answers: problem+json (RFC 9457), with a code that the SDK turns back into the same error."""

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from math import ceil
from typing import Any
from uuid import UUID

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict
from starlette.exceptions import HTTPException

from memlane.errors import (
    BudgetExceeded,
    Conflict,
    FieldError,
    Forbidden,
    InvalidInput,
    Malformed,
    MemlaneError,
    Misconfigured,
    NotFound,
    RateLimited,
    TooLarge,
    TooSlow,
    Unauthorized,
    Unavailable,
)
from memlane.gateway.docstrings import Docstring

log = structlog.get_logger(__name__)

PROBLEM_JSON = "application/problem+json"

_STATUS: tuple[tuple[type[MemlaneError], int, str], ...] = (
    (Malformed, 400, "malformed"),
    (TooLarge, 413, "too_large"),
    (TooSlow, 408, "too_slow"),
    (InvalidInput, 422, "invalid_input"),
    (Forbidden, 403, "forbidden"),
    (Unauthorized, 401, "unauthorized"),
    (NotFound, 404, "not_found"),
    (Conflict, 409, "conflict"),
    (BudgetExceeded, 402, "budget_exceeded"),
    (RateLimited, 429, "rate_limited"),
    (Unavailable, 503, "unavailable"),
    (Misconfigured, 503, "misconfigured"),
    (MemlaneError, 500, "server_error"),
)
"""Each error's status and code; the first that fits counts."""


_RETRY_AFTER: Mapping[int, Callable[[float], int]] = {429: ceil}
"""How seconds become whole ones: who is over a rate and comes back too soon is refused again."""


class Problem(BaseModel):
    """An error.

    Attributes:
        type: always about:blank; `code` says what it is.
        title: the code in words.
        status: the HTTP status.
        code: what to branch on.
        detail: what is wrong, for people.
        errors: for invalid input, each field that is wrong.
        first: for a conflict, the id of the memory that holds the key.
        spent_micro: for a budget that is exceeded, what is spent of it, in micro-dollars.
        limit_micro: for a budget that is exceeded, the budget, in micro-dollars.
        resets_at: for a budget that is exceeded, when it begins anew.
        limit: for 429, what it is over: `tenant`, `agent` (their rates), `open_jobs` or `agent_open_bytes`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: str
    title: str
    status: int
    code: str
    detail: str
    errors: tuple[FieldError, ...] = ()
    first: UUID | None = None
    spent_micro: int | None = None
    limit_micro: int | None = None
    resets_at: datetime | None = None
    limit: str | None = None


def failing(*kinds: type[MemlaneError]) -> dict[int | str, dict[str, Any]]:
    """The answers that stand for these errors, as an endpoint declares them."""
    schema = {"$ref": f"#/components/schemas/{Problem.__name__}"}
    declared: dict[int | str, dict[str, Any]] = {}
    for kind in kinds:
        status, code = next((status, code) for listed, status, code in _STATUS if issubclass(kind, listed))
        meaning = f"{code}: {Docstring.of(kind.__doc__).text}"
        declared[status] = {"description": meaning, "content": {PROBLEM_JSON: {"schema": schema}}}
    return declared


def status_of(error: MemlaneError) -> tuple[int, str]:
    """The HTTP status and the code of an error."""
    return next((status, code) for kind, status, code in _STATUS if isinstance(error, kind))


def problem(error: MemlaneError) -> Response:
    """An error as an answer."""
    status, code = status_of(error)
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": _title(code),
        "status": status,
        "code": code,
        "detail": str(error),
    }
    headers = {}
    if isinstance(error, BudgetExceeded):
        body |= _budget(error)
    if isinstance(error, InvalidInput):
        body["errors"] = [_field(field) for field in error.fields]
    if isinstance(error, Conflict) and error.first is not None:
        body["first"] = str(error.first)
    if isinstance(error, RateLimited):
        body["limit"] = error.limit
    if isinstance(error, Unavailable):
        headers["Retry-After"] = str(max(1, _RETRY_AFTER.get(status, round)(error.retry_after_s)))
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return _response(body, status, headers)


def install(app: FastAPI) -> None:
    """Make every error of an app a problem."""
    app.exception_handler(MemlaneError)(ours)
    app.exception_handler(Exception)(unexpected)

    @app.exception_handler(RequestValidationError)
    async def parameters(_request: Request, error: RequestValidationError) -> Response:
        fields = [FieldError(str(e["loc"][-1]), e["msg"]) for e in error.errors()]
        return problem(InvalidInput(fields))

    @app.exception_handler(HTTPException)
    async def http(_request: Request, error: HTTPException) -> Response:
        code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "http_error")
        body = {"type": "about:blank", "title": _title(code), "status": error.status_code, "code": code}
        return _response({**body, "detail": str(error.detail)}, error.status_code, dict(error.headers or {}))


async def ours(request: Request, error: MemlaneError) -> Response:
    """The answer to a request that came to one of our errors."""
    status = status_of(error)[0]
    if status == 500:
        log.error("request.failed", exc_info=error, why=str(error))
    elif status > 500:
        log.warning("request.failed", why=str(error))
    answer = problem(error)
    answer.headers.update(headers_for(request) or {})
    return answer


async def unexpected(_request: Request, _error: Exception) -> Response:
    """The answer to a request that came to anything else; the server logs it."""
    body = {"type": "about:blank", "title": "Server error", "status": 500, "code": "server_error"}
    return _response({**body, "detail": "an error that was not foreseen; the log has it"}, 500, {})


def headers_for(request: Request) -> Mapping[str, str] | None:
    """The headers that the answer of a request carries, whatever it is; None if nobody has said so."""
    found: Mapping[str, str] | None = getattr(request.state, "headers", None)
    return found


def _budget(error: BudgetExceeded) -> dict[str, Any]:
    told = {
        "spent_micro": error.spent_micro,
        "limit_micro": error.limit_micro,
        "resets_at": error.resets_at.isoformat() if error.resets_at else None,
    }
    return {name: value for name, value in told.items() if value is not None}


def _field(field: FieldError) -> dict[str, Any]:
    named = {"field": field.field, "detail": field.detail}
    return named if field.index is None else {**named, "index": field.index}


def _title(code: str) -> str:
    return code.replace("_", " ").capitalize()


def _response(body: dict[str, Any], status: int, headers: dict[str, str]) -> Response:
    return Response(json.dumps(body), status, headers, media_type=PROBLEM_JSON)
