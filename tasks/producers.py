"""The producers' door: what a `memory.*` message asks for is done, or the message is kept as a stray.

A message is never dropped: one that does not validate, or that breaks what handles it, is kept with the
reason; one whose shard is down is kept on a shard that lives, for the sweep to send on; and what is over a
limit is held back until there is room.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any
from uuid import UUID, uuid5

import structlog

from memlane.contract import Event, MemoryItem, key_id, limits
from memlane.contract.parsing import parse
from memlane.contract.requests import AgentRequest, EmbeddingsRequest, ForgetRequest
from memlane.errors import Conflict, InvalidInput, MemlaneError, Misconfigured, Unavailable
from memlane.storage import ledger, strays
from memlane.storage.held import TASK
from memlane.storage.tenants import check_tenant
from memlane.tasks import batch_embed, forget, holding, optimize
from memlane.tasks.hooks import Operation
from memlane.tasks.lane import Lane
from memlane.tasks.rates import Rates

log = structlog.get_logger(__name__)

Message = Mapping[str, Any]

_MESSAGES = UUID("8d0f5a1c-7c57-5d0b-8a5e-6d656d6c616e")
"""The name space of ids made for memories that came without one."""


def deliver(
    lane: Lane,
    task: str,
    message: Message,
    message_id: str,
    rates: Rates | None = None,
    traceparent: str | None = None,
) -> None:
    """Do what a message asks for, or keep it as a stray.

    Args:
        lane: this process's.
        task: the producer's task.
        message: its keyword arguments.
        message_id: the same for every delivery of it, so that a memory that came without an id or a
            key of its own is recognised when the message comes again.
        rates: this process's, if it counts.
        traceparent: of the producer's span, if it came along.

    Raises:
        Unavailable: no shard answers at all; the message has to stay in its queue.
        Misconfigured: an operator has to act first; the message has to stay in its queue.
    """
    with lane.hooks.around(_operation(task, message, traceparent)) as underway:
        try:
            _do(lane, task, message, message_id, rates)
        except InvalidInput as error:
            underway.failed(error)
            _keep_invalid(lane, task, _tenant(message), str(error), message, message_id)
        except Unavailable as error:
            underway.failed(error)
            tenant = _tenant(message)
            target = lane.cluster.shard_of(tenant or "", str(message.get("agent", "")))
            strays.keep(lane.cluster, task, tenant, str(error), message, target, message_id)
        except Misconfigured:
            raise
        except Exception as error:  # Celery would acknowledge the message, and it would be gone
            underway.failed(error)
            tenant, reason = _tenant(message), f"{type(error).__name__} in {task}"
            log.exception("stray", task=task, tenant=tenant, reason=reason)
            strays.keep(lane.cluster, task, tenant, reason, message, message_id=message_id)


def _do(lane: Lane, task: str, message: Message, message_id: str, rates: Rates | None) -> None:
    tenant = check_tenant(message.get("tenant"))
    asked = {name: value for name, value in message.items() if name != "tenant"}
    if task == TASK:
        _remember(lane, tenant, asked, message_id, rates)
    else:
        _DOORS[task](lane, tenant, asked, message_id)


def _tenant(message: Message) -> str | None:
    """The tenant of a message, if it names one."""
    try:
        return check_tenant(message.get("tenant"))
    except InvalidInput:
        return None


def _operation(task: str, message: Message, traceparent: str | None) -> Operation:
    items = message.get("items")
    count = len(items) if isinstance(items, list) else 1
    name = task if task in TASKS else "memory.unknown"
    return Operation(name, _tenant(message), items=count, continues=traceparent)


def _remember(lane: Lane, tenant: str, asked: Message, message_id: str, rates: Rates | None) -> None:
    raw = asked["items"] if set(asked) == {"items"} else [asked]
    if not isinstance(raw, list) or not 0 < len(raw) <= limits.BATCH_ITEMS:
        raise InvalidInput([], f"items: must be a list of 1 to {limits.BATCH_ITEMS}")
    good = []
    for index, value in enumerate(raw):
        try:
            item = parse(MemoryItem, value)
        except InvalidInput as error:
            bad = {"tenant": tenant, "items": [value]}
            _keep_invalid(lane, TASK, tenant, str(error), bad, f"{message_id}:{index}")
        else:
            named = item.id or item.key
            good.append(item if named else item.model_copy(update={"id": uuid5(_MESSAGES, f"{message_id}:{index}")}))
    later: dict[int, tuple[MemlaneError, list[MemoryItem]]] = {}
    over: list[tuple[MemoryItem, str]] = []
    for item, result in zip(good, holding.take_in(lane, rates, tenant, good), strict=True):
        if isinstance(result, Conflict):
            _keep_items(lane, tenant, [item], result, None, message_id)
        elif (limit := holding.limit_of(result)) is not None:
            over.append((item, limit))
        elif isinstance(result, MemlaneError):
            later.setdefault(lane.cluster.shard_of(tenant, item.agent), (result, []))[1].append(item)
    for target, (why, items) in later.items():
        _keep_items(lane, tenant, items, why, target, message_id)
    holding.hold(lane, tenant, over, message_id)


def _keep_items(
    lane: Lane, tenant: str, items: Sequence[MemoryItem], error: MemlaneError, target: int | None, message_id: str
) -> None:
    """Keep items that were not taken in: for an operator after a conflict, to be sent on when their shard was down."""
    message = {"tenant": tenant, "items": [item.model_dump(mode="json", exclude_defaults=True) for item in items]}
    strays.keep(lane.cluster, TASK, tenant, str(error), message, target, message_id)


def _batch_embed(lane: Lane, tenant: str, asked: Message, message_id: str) -> None:
    wanted = parse(EmbeddingsRequest, asked)
    for number, texts in batch_embed.place(lane, tenant, wanted).items():
        try:
            batch_embed.on_shard(lane, tenant, wanted, number, texts)
        except Unavailable as error:
            message = {"tenant": tenant, **wanted.model_dump(mode="json", exclude_defaults=True)}
            message |= {"texts": list(texts)} if texts else {}
            strays.keep(lane.cluster, "memory.batch_embed", tenant, str(error), message, number, message_id)


def _optimize(lane: Lane, tenant: str, asked: Message, _id: str) -> None:
    optimize.request(lane, tenant, parse(AgentRequest, asked).agent)


def _forget(lane: Lane, tenant: str, asked: Message, message_id: str) -> None:
    wanted = parse(ForgetRequest, asked)
    id_ = key_id(tenant, wanted.agent, wanted.key) if wanted.key else wanted.id
    if id_ is None:
        forget.forget_agent(lane, tenant, wanted.agent, uuid5(_MESSAGES, message_id))
    else:
        forget.forget_memory(lane, tenant, wanted.agent, id_)


_DOORS: Mapping[str, Callable[[Lane, str, Message, str], None]] = {
    "memory.batch_embed": _batch_embed,
    "memory.optimize": _optimize,
    "memory.forget": _forget,
}

TASKS = (TASK, *_DOORS)
"""The tasks that producers may send."""


def _keep_invalid(lane: Lane, task: str, tenant: str | None, reason: str, message: Message, message_id: str) -> None:
    log.warning("stray", task=task, tenant=tenant)  # the reason may name a field that the caller made up
    strays.keep(lane.cluster, task, tenant, reason, message, message_id=message_id)
    if tenant is None:
        return
    try:
        number = lane.cluster.shard_of(tenant, "")
        lane.cluster.on(number, lambda shard: ledger.note(shard, tenant, Event.REJECTED, 1))
    except Unavailable:
        log.warning("stray.not_counted", task=task, tenant=tenant)
