"""Holding back: what producers hand over beyond a limit waits in a shard, and is sent on when there is room again."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby
from typing import Any

import structlog

from memlane.contract import MemoryItem
from memlane.contract.parsing import parse
from memlane.errors import BudgetExceeded, InvalidInput, MemlaneError, Misconfigured, RateLimited, Unavailable
from memlane.storage import held, strays
from memlane.storage.cluster import Shard
from memlane.storage.held import TASK, Full, Held, Part
from memlane.tasks import accept, admission
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
        Part([_raw(item) for item in together], limit, target)
        for (agent, limit), found in groupby(by_agent, key=lambda one: (one[0].agent, one[1]))
        for target in [lane.cluster.shard_of(tenant, agent)]
        for together in _together(lane, tenant, [item for item, _ in found])
    ]
    if parts:
        held.hold(lane.cluster, tenant, parts, message_id, since)
        log.info("held", tenant=tenant, messages=len(parts), limits=sorted({part.limit for part in parts}))


def _raw(item: MemoryItem) -> dict[str, Any]:
    """An item as it is kept."""
    return item.model_dump(mode="json", exclude_defaults=True)


def _together(lane: Lane, tenant: str, items: Sequence[MemoryItem]) -> Iterator[Sequence[MemoryItem]]:
    """Items in groups that are small beside the rates: a group passes as a whole, or not at all."""
    limits = lane.cluster.terms.of(tenant)
    size = max(1, min([_TOGETHER, *(rate // 4 for rate in (limits.rate, limits.agent_rate) if rate is not None)]))
    for begin in range(0, len(items), size):
        yield items[begin : begin + size]


def send_held(lane: Lane, rates: Rates | None, shard: Shard) -> None:
    """Send on what is held back in a shard and has room now, oldest first; what waited too long is set aside.

    Raises:
        Unavailable: the shard, or any that could keep what is refused, does not answer.
        Misconfigured: an operator has to act first.
    """
    if set_aside := held.set_aside(shard, lane.settings.hold_s):
        log.warning("held.set_aside", shard=shard.number, messages=set_aside)
    door = _Door(lane, rates)
    full = Full()
    tried = 0
    while tried < _AT_ONCE and (found := held.oldest(shard, full, _PAGE)):
        for one in found:
            if not full.has(one):
                tried += 1
                _send_or_keep(door, shard, one, full)


@dataclass(frozen=True, slots=True)
class _Door:
    """What one sweep hands held memories over to.

    Attributes:
        lane: this process's.
        rates: this process's, if it counts.
        down: the shards that do not answer, and why; None for those that do.
    """

    lane: Lane
    rates: Rates | None
    down: dict[int, Unavailable | None] = field(default_factory=dict)

    def take_in(self, tenant: str, items: Sequence[MemoryItem]) -> list[Result]:
        """As `take_in`, but only what would be accepted counts at the rates: what is held is tried again and again."""
        refused: dict[int, Result] = {}
        for number, part in accept.place(self.lane, tenant, items, atomic=False).items():
            down = self._down(number)
            refused |= (
                admission.foreseen(self.lane, tenant, number, part)
                if down is None
                else dict.fromkeys((placed.place for placed in part), down)
            )
        fit = [item for place, item in enumerate(items) if place not in refused]
        results = iter(take_in(self.lane, self.rates, tenant, fit)) if fit else iter(())
        return [refused[place] if place in refused else next(results) for place in range(len(items))]

    def _down(self, number: int) -> Unavailable | None:
        """Why a shard does not answer, asked once; None if it does."""
        if number not in self.down:
            try:
                self.lane.cluster.on(number, lambda here: here.ping())
            except Unavailable as error:
                self.down[number] = error
            else:
                self.down[number] = None
        return self.down[number]


def _send_or_keep(door: _Door, shard: Shard, one: Held, full: Full) -> None:
    """Hand held memories over again; what breaks those who handle it is left to an operator, and holds up no other."""
    try:
        _send(door, shard, one, full)
    except (Unavailable, Misconfigured):
        raise
    except Exception as error:
        reason = f"{type(error).__name__} in {TASK}"
        log.exception("stray", task=TASK, tenant=one.tenant, reason=reason)
        message = {"tenant": one.tenant, "items": one.items}
        strays.keep(door.lane.cluster, TASK, one.tenant, reason, message, message_id=str(one.id))
        strays.drop(shard, one.id)


def _send(door: _Door, shard: Shard, one: Held, full: Full) -> None:
    """Hand held memories over again: those that are let in go, those over a limit stay, as old as they are."""
    lane = door.lane
    items = list(_read(lane, one))
    over: list[tuple[MemoryItem, str]] = []
    later: dict[int, tuple[Unavailable, list[object]]] = {}
    for item, result in zip(items, door.take_in(one.tenant, items), strict=True):
        if (limit := limit_of(result)) is not None:
            full.add(one, limit)
            over.append((item, limit))
        elif isinstance(result, Unavailable):
            target = lane.cluster.shard_of(one.tenant, item.agent)
            later.setdefault(target, (result, []))[1].append(_raw(item))
        elif isinstance(result, MemlaneError):
            _keep(lane, one, [_raw(item)], result)
    for target, (why, raw) in later.items():
        _keep(lane, one, raw, why, target)
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
            _keep(lane, one, [raw], error)


def _keep(lane: Lane, one: Held, items: Sequence[object], error: MemlaneError, target: int | None = None) -> None:
    """Keep memories that were not taken in: for an operator, or to be sent on when their shard, the target, is back."""
    message = {"tenant": one.tenant, "items": items}
    strays.keep(lane.cluster, TASK, one.tenant, str(error), message, target, message_id=str(one.id))
