"""Holding back: what producers hand over beyond a limit waits in a shard, and is sent on when there is room again."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import groupby

import structlog

from memlane.contract import MemoryItem
from memlane.contract.parsing import parse
from memlane.errors import BudgetExceeded, Conflict, InvalidInput, MemlaneError, RateLimited
from memlane.storage import held, strays
from memlane.storage.cluster import Shard
from memlane.storage.held import TASK, Full, Held, Part
from memlane.tasks import accept
from memlane.tasks.accept import Result
from memlane.tasks.lane import Lane
from memlane.tasks.rates import Rated, Rates, TooManyAtOnce

log = structlog.get_logger(__name__)

_TOGETHER = 100
"""Most memories of an agent that are held back, and so sent on, together."""

_AT_ONCE = 100
"""Most messages that one sweep of a shard tries to send on."""

_PAGE = 20


def take_in(lane: Lane, rates: Rates | None, tenant: str, items: Sequence[MemoryItem]) -> list[Result]:
    """Accept items that their rates let through; the results are in the order of the items."""
    rated = rates.take(tenant, Counter(item.agent for item in items)) if rates is not None else Rated()
    results = iter(accept.accept(lane, tenant, [item for item in items if item.agent not in rated.refused]))
    return [rated.refused.get(item.agent) or next(results) for item in items]


def limit_of(result: Result) -> str | None:
    """The limit that an item is over; None if that is not why it was refused, or if it was not."""
    if isinstance(result, RateLimited | TooManyAtOnce):
        return result.limit
    return "budget" if isinstance(result, BudgetExceeded) else None


def hold(
    lane: Lane,
    tenant: str,
    over: Iterable[tuple[MemoryItem, str]],
    message_id: str,
    since: datetime | None = None,
) -> None:
    """Hold items back that are over a limit, those of each agent apart, in their order.

    Raises:
        Unavailable: no shard answers; their message has to stay where it is.
    """
    by_agent = sorted(over, key=lambda one: one[0].agent)
    parts = [
        Part([item.model_dump(mode="json", exclude_defaults=True) for item in together], limit, target)
        for (agent, limit), found in groupby(by_agent, key=lambda one: (one[0].agent, one[1]))
        for target in [lane.cluster.shard_of(tenant, agent)]
        for together in _together(lane, tenant, [item for item, _ in found])
    ]
    if parts:
        held.hold(lane.cluster, tenant, parts, message_id, since)
        log.info("held", tenant=tenant, messages=len(parts), limits=sorted({part.limit for part in parts}))


def _together(lane: Lane, tenant: str, items: Sequence[MemoryItem]) -> Iterator[Sequence[MemoryItem]]:
    """Items in groups that are small beside the rates: a group passes as a whole, or not at all."""
    limits = lane.cluster.terms.of(tenant)
    size = max(1, min([_TOGETHER, *(rate // 4 for rate in (limits.rate, limits.agent_rate) if rate is not None)]))
    for begin in range(0, len(items), size):
        yield items[begin : begin + size]


def send_held(lane: Lane, rates: Rates | None, shard: Shard) -> None:
    """Send on what is held back in a shard and has room now, oldest first; what waited too long is set aside."""
    full = Full()
    tried = 0
    while tried < _AT_ONCE and (found := held.oldest(shard, full, _PAGE)):
        for one in found:
            if not full.has(one):
                tried += 1
                _send(lane, rates, shard, one, full)
    if set_aside := held.set_aside(shard, lane.settings.hold_s):
        log.warning("held.set_aside", shard=shard.number, messages=set_aside)


def _send(lane: Lane, rates: Rates | None, shard: Shard, one: Held, full: Full) -> None:
    """Hand held memories over again: those that are let in go, the others stay, as old as they are."""
    items = list(_read(lane, one))
    results = take_in(lane, rates, one.tenant, items) if items else []
    over: list[tuple[MemoryItem, str]] = []
    for item, result in zip(items, results, strict=True):
        if isinstance(result, Conflict):
            _keep(lane, one, item.model_dump(mode="json", exclude_defaults=True), result)
        elif isinstance(result, MemlaneError):  # what is down is waited for as well
            limit = limit_of(result) or "agent"
            full.add(one, limit)
            over.append((item, limit))
    if len(over) < len(one.items):
        hold(lane, one.tenant, over, str(one.id), one.since)
        strays.drop(shard, one.id)
        log.info("held.sent_on", tenant=one.tenant, memories=len(one.items) - len(over))


def _read(lane: Lane, one: Held) -> Iterator[MemoryItem]:
    """Held memories as items. One that was good for another version is left to an operator."""
    for raw in one.items:
        try:
            yield parse(MemoryItem, raw)
        except InvalidInput as error:
            _keep(lane, one, raw, error)


def _keep(lane: Lane, one: Held, raw: object, error: MemlaneError) -> None:
    message = {"tenant": one.tenant, "items": [raw]}
    strays.keep(lane.cluster, TASK, one.tenant, str(error), message, message_id=str(one.id))
