"""Each call of the API once: what is sent, and what the answer means. Both clients send these."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, TypeVar
from urllib.parse import quote
from uuid import UUID, uuid4

from pydantic import BaseModel

from memlane import errors
from memlane.client.http import Answer, Request, path_of
from memlane.contract import (
    BatchResult,
    Ledger,
    Memory,
    MemoryItem,
    MemoryUpdate,
    Page,
    PageRequest,
    Recalled,
    RecallRequest,
    Receipt,
    Use,
    Version,
    wire,
)
from memlane.contract.parked import Changed, MemoryNames, ParkedPage, ParkedRequest
from memlane.contract.patterns import Pattern, Patterns
from memlane.contract.requests import REQUEST_HEADER, EmbeddingsRequest, ForgetMatching, Forgetting, ReceiptsRequest
from memlane.errors import (
    BudgetExceeded,
    Conflict,
    FieldError,
    InvalidInput,
    MemlaneError,
    RateLimited,
    ServerError,
    Unavailable,
)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One request, and how its answer is read. Each may be sent again: the ids in it are the same."""

    method: str
    path: str
    read: Callable[[bytes], T]
    body: bytes | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    patience_s: float = 0.0
    """How long the server itself may wait before it answers."""
    headers: Mapping[str, str] = field(default_factory=dict)


def remember(items: Sequence[MemoryItem | Mapping[str, Any]], *, atomic: bool = False) -> Call[BatchResult]:
    """POST /v1/memories, always as a batch; what is no good item is sent as it is and comes back named."""
    body = {"memories": [_fields(item) for item in items], "atomic": atomic}
    return Call("POST", "/v1/memories", _reads(BatchResult), json.dumps(body, default=repr).encode())


def get(agent: str, id_: UUID) -> Call[Memory]:
    """GET /v1/memories/{agent}/{id}."""
    return Call("GET", f"/v1/memories/{_name(agent)}/{id_}", _reads(Memory))


def page(request: PageRequest) -> Call[Page]:
    """GET /v1/memories."""
    params: dict[str, Any] = {
        "agent": request.agent,
        "limit": request.limit,
        "cursor": request.cursor,
        "kind": list(request.kinds),
        "tag": list(request.tags),
        "since": request.since.isoformat() if request.since else None,
        "until": request.until.isoformat() if request.until else None,
        "thread": request.thread,
        "metadata": json.dumps(request.metadata) if request.metadata else None,
        "min_importance": request.min_importance or None,
        "pinned": request.pinned,
        "include_superseded": request.include_superseded or None,
        "oldest_first": request.oldest_first or None,
        "vectors": request.vectors or None,
    }
    return Call("GET", "/v1/memories", _reads(Page), params={k: v for k, v in params.items() if v not in (None, [])})


def recall(request: RecallRequest) -> Call[Recalled]:
    """POST /v1/recall."""
    return Call("POST", "/v1/recall", _reads(Recalled), _body(request))


def update(agent: str, id_: UUID, wanted: MemoryUpdate) -> Call[Memory]:
    """PATCH /v1/memories/{agent}/{id}."""
    body = wanted.model_dump_json(exclude_unset=True).encode()
    return Call("PATCH", f"/v1/memories/{_name(agent)}/{id_}", _reads(Memory), body)


def history(agent: str, id_: UUID) -> Call[list[Version]]:
    """GET /v1/memories/{agent}/{id}/history."""
    return Call("GET", f"/v1/memories/{_name(agent)}/{id_}/history", _reads(list[Version]))


def use(agent: str, id_: UUID) -> Call[Use]:
    """GET /v1/memories/{agent}/{id}/use."""
    return Call("GET", f"/v1/memories/{_name(agent)}/{id_}/use", _reads(Use))


def forget_matching(agent: str, wanted: ForgetMatching) -> Call[Forgetting]:
    """POST /v1/agents/{agent}/forget."""
    return Call("POST", f"/v1/agents/{_name(agent)}/forget", _reads(Forgetting), _body(wanted), headers=_named())


def receipts(request: ReceiptsRequest) -> Call[list[Receipt]]:
    """POST /v1/receipts."""
    patience_s = request.timeout if request.wait else 0.0
    return Call("POST", "/v1/receipts", _reads(list[Receipt]), _body(request), patience_s=patience_s)


def forget(agent: str, id_: UUID) -> Call[Receipt]:
    """DELETE /v1/memories/{agent}/{id}."""
    return Call("DELETE", f"/v1/memories/{_name(agent)}/{id_}", _reads(Receipt))


def forget_agent(agent: str) -> Call[None]:
    """DELETE /v1/agents/{agent}."""
    return Call("DELETE", f"/v1/agents/{_name(agent)}", _nothing, headers=_named())


def _named() -> Mapping[str, str]:
    """A name for a request, the same each time that it is sent."""
    return {REQUEST_HEADER: str(uuid4())}


def embed(request: EmbeddingsRequest) -> Call[int]:
    """POST /v1/embeddings."""
    return Call("POST", "/v1/embeddings", lambda data: int(json.loads(data)["jobs"]), _body(request))


def optimize(agent: str) -> Call[None]:
    """POST /v1/agents/{agent}/optimize."""
    return Call("POST", f"/v1/agents/{_name(agent)}/optimize", _nothing)


def patterns(agent: str) -> Call[Sequence[Pattern]]:
    """GET /v1/agents/{agent}/patterns."""
    return Call("GET", f"/v1/agents/{_name(agent)}/patterns", lambda data: wire.load(Patterns, data).patterns)


def ledger() -> Call[Ledger]:
    """GET /v1/ledger."""
    return Call("GET", "/v1/ledger", _reads(Ledger))


def parked(request: ParkedRequest) -> Call[ParkedPage]:
    """GET /v1/jobs/parked."""
    params = request.model_dump(mode="json", exclude_none=True)
    return Call("GET", "/v1/jobs/parked", _reads(ParkedPage), params=params)


def retry_parked(named: MemoryNames) -> Call[Changed]:
    """POST /v1/jobs/parked/retry."""
    return Call("POST", "/v1/jobs/parked/retry", _reads(Changed), _body(named))


def drop_parked(named: MemoryNames) -> Call[Changed]:
    """POST /v1/jobs/parked/drop."""
    return Call("POST", "/v1/jobs/parked/drop", _reads(Changed), _body(named))


def request_of(call: Call[Any], headers: Mapping[str, str], timeout_s: float) -> Request:
    """A call as it is sent.

    Args:
        call: it.
        headers: what each request carries.
        timeout_s: how long each step may take, beside what the server itself waits for.
    """
    every = {**headers, **call.headers} if call.headers else headers
    return Request(call.method, path_of(call.path, call.params), call.body, every, timeout_s + call.patience_s)


def understand(call: Call[T], answer: Answer) -> T:
    """What an answer means.

    Raises:
        MemlaneError: the one that the server raised.
    """
    if 200 <= answer.status < 300:
        try:
            return call.read(answer.content)
        except ValueError:
            raise ServerError(f"the answer of {call.method} {call.path} is not what it should be") from None
    raise error_of(answer)


def error_of(answer: Answer) -> MemlaneError:
    """The error that a problem+json stands for."""
    try:
        problem = json.loads(answer.content)
        code, detail = str(problem["code"]), str(problem["detail"])
    except (ValueError, KeyError, TypeError):
        code, problem, detail = "", {}, f"the server answered {answer.status}"
    fields = [FieldError(e["field"], e["detail"], e.get("index")) for e in problem.get("errors", [])]
    match code:
        case "invalid_input" | "malformed" | "too_large" | "too_slow":
            return _OF_INPUT.get(code, InvalidInput)(fields, detail)
        case "conflict":
            return Conflict(detail, UUID(problem["first"]) if "first" in problem else None)
        case "budget_exceeded":
            return _budget(detail, problem)
        case "rate_limited":
            return RateLimited(detail, retry_after_s(answer), limit=problem.get("limit", "tenant"))
        case "unauthorized" | "forbidden" | "not_found" | "misconfigured":
            return _PLAIN[code](detail)
    return _by_status(answer, detail)


def _by_status(answer: Answer, detail: str) -> MemlaneError:
    """What an answer means whose code says no more than its status; it may be that of a proxy."""
    if answer.status == 429:
        return RateLimited(detail, retry_after_s(answer))
    if answer.status in (502, 503, 504):
        return Unavailable(detail, retry_after_s(answer))
    return ServerError(f"{answer.status}: {detail}")


def _budget(detail: str, problem: Mapping[str, Any]) -> BudgetExceeded:
    resets_at = problem.get("resets_at")
    return BudgetExceeded(
        detail,
        spent_micro=problem.get("spent_micro"),
        limit_micro=problem.get("limit_micro"),
        resets_at=datetime.fromisoformat(resets_at) if resets_at else None,
    )


def retry_after_s(answer: Answer) -> float:
    """What the server asks us to wait, in seconds."""
    try:
        return float(answer.headers.get("retry-after", "1"))
    except ValueError:
        return 1.0


_OF_INPUT: Mapping[str, type[InvalidInput]] = {
    "malformed": errors.Malformed,
    "too_large": errors.TooLarge,
    "too_slow": errors.TooSlow,
}

_PLAIN: Mapping[str, type[MemlaneError]] = {
    "unauthorized": errors.Unauthorized,
    "forbidden": errors.Forbidden,
    "not_found": errors.NotFound,
    "misconfigured": errors.Misconfigured,
}


def _reads(kind: type[T]) -> Callable[[bytes], T]:
    return lambda data: wire.load(kind, data)


def _nothing(_data: bytes) -> None:
    return None


def _body(request: BaseModel) -> bytes:
    return request.model_dump_json(exclude_defaults=True).encode()


def _fields(item: MemoryItem | Mapping[str, Any]) -> dict[str, Any]:
    return item.model_dump(mode="json", exclude_defaults=True) if isinstance(item, MemoryItem) else dict(item)


def _name(agent: str) -> str:
    return quote(agent, safe="")
