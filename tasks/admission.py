"""Admission: which items are over a cap of what is open, or over a budget that refuses. All doors ask here.

All of it is looked up in what this process knows: it costs the way in nothing, and is right to a few seconds. What is
let in and turns out to be over a budget waits for its vector; nothing is ever spent that a budget has no room for.
"""

import json
from collections.abc import Sequence

from memlane.contract.money import exact
from memlane.contract.tokens import bound
from memlane.errors import BudgetExceeded, FieldError, InvalidInput, MemlaneError, RateLimited
from memlane.storage import embedding_cache, ids
from memlane.storage.embedding_cache import Text
from memlane.storage.open_jobs import EVERY_S  # open_bytes looks as often
from memlane.storage.rooms import PICO, Room
from memlane.tasks import embedding
from memlane.tasks.embedders import called
from memlane.tasks.lane import Lane
from memlane.tasks.placed import Placed

MIB = 1024 * 1024

_FIELDS_BYTES = 100
"""About what the other fields of a memory hold."""


def refused(
    lane: Lane, tenant: str, shard: int, part: Sequence[Placed], *, atomic: bool = False
) -> dict[int, MemlaneError]:
    """Which items of a shard's part are refused, by place; the others are counted as open.

    Args:
        lane: this process's.
        tenant: whose they are.
        shard: where they go.
        part: the items.
        atomic: all are let in, or none.

    Raises:
        Unavailable: it has to be known whether an item was accepted before, and its shard does not answer.
    """
    over: dict[int, MemlaneError] = {**_over_budget(lane, tenant, shard, part)}
    if atomic and over:
        return over
    over |= _over_cap(lane, tenant, [placed.place for placed in part if placed.place not in over], atomic)
    if atomic and over:
        return over
    rest = [placed for placed in part if placed.place not in over]
    large = _too_much_open(lane, tenant, rest, atomic)
    _give_back_jobs(lane, tenant, len(large))
    return over | large


def foreseen(lane: Lane, tenant: str, shard: int, part: Sequence[Placed]) -> dict[int, MemlaneError]:
    """As `refused`, but takes no room: the others are not handed over yet."""
    over = refused(lane, tenant, shard, part)
    took(lane, tenant, [placed for placed in part if placed.place not in over], [])
    return over


def took(lane: Lane, tenant: str, let_in: Sequence[Placed], new: Sequence[Placed]) -> None:
    """Of the items that were let in, these became jobs; the others had been accepted before, or are in conflict."""
    if len(new) == len(let_in):
        return
    places = {placed.place for placed in new}
    lane.cluster.open_bytes.give_back(tenant, [_weight(placed) for placed in let_in if placed.place not in places])
    _give_back_jobs(lane, tenant, len(let_in) - len(new))


def _give_back_jobs(lane: Lane, tenant: str, count: int) -> None:
    if count and lane.cluster.terms.of(tenant).open_jobs is not None:
        lane.cluster.open_jobs.give_back(tenant, count)


def _over_cap(lane: Lane, tenant: str, places: Sequence[int], atomic: bool) -> dict[int, MemlaneError]:
    """Which items are over the tenant's cap of open jobs; the others are counted."""
    cap = lane.cluster.terms.of(tenant).open_jobs
    if cap is None or not places:
        return {}
    if atomic and len(places) > cap:
        return dict.fromkeys(places, _hopeless(f"{len(places)} at once", f"the cap of {cap} open jobs"))
    let_in = lane.cluster.open_jobs.take(tenant, cap, len(places), all_or_none=atomic)
    return dict.fromkeys(places[let_in:], RateLimited(f"over the cap of {cap} open jobs", EVERY_S, limit="open_jobs"))


def _too_much_open(lane: Lane, tenant: str, part: Sequence[Placed], atomic: bool) -> dict[int, MemlaneError]:
    """Which items are over what their agents may have open, in bytes; the others are counted."""
    most = lane.cluster.open_bytes.limit_bytes
    if most is None or not part:
        return {}
    weights = [_weight(placed) for placed in part]
    together = sum(size for _, size in weights)
    named = f"the {most // MIB} MiB that an agent may have open"
    if atomic and together > most:
        return dict.fromkeys((p.place for p in part), _hopeless(f"{together:,} bytes at once", named))
    granted = lane.cluster.open_bytes.take(tenant, weights, all_or_none=atomic)
    over = [placed.place for placed, took in zip(part, granted, strict=True) if not took]
    return dict.fromkeys(over, RateLimited(f"over {named}", EVERY_S, limit="agent_open_bytes"))


def _weight(placed: Placed) -> tuple[str, int]:
    """An item's agent, and about how many bytes its job holds."""
    item = placed.item
    metadata = len(json.dumps(item.metadata)) if item.metadata else 0
    content = len(item.content) if item.content.isascii() else len(item.content.encode())
    return item.agent, _FIELDS_BYTES + content + metadata


def _over_budget(lane: Lane, tenant: str, shard: int, part: Sequence[Placed]) -> dict[int, BudgetExceeded]:
    """Which items may cost more than their budgets have left. What costs nothing is never refused."""
    agents = {"", *(placed.item.agent for placed in part)}
    rooms = [room for room in lane.cluster.rooms.of(tenant) if room.agent in agents]
    price = lane.cluster.rooms.price(called(lane.settings)) if rooms else None
    if not price or price * sum(bound(placed.item.text) for placed in part) <= min(room.left for room in rooms):
        return {}
    free = _free(lane, tenant, shard, part)
    dear = [placed for placed in part if placed.place not in free]
    tokens = lane.provider.count([placed.item.text for placed in dear]) if dear else []
    return _beyond(rooms, dear, [price * count for count in tokens])


def _beyond(rooms: Sequence[Room], dear: Sequence[Placed], costs: Sequence[int]) -> dict[int, BudgetExceeded]:
    """Which items there is no room for, when those before them that fit are let in."""
    left = {room: room.left for room in rooms}
    over = {}
    for placed, cost in zip(dear, costs, strict=True):
        concerned = [room for room in rooms if room.agent in ("", placed.item.agent)]
        full = next((room for room in concerned if cost > left[room]), None)
        if full is not None:
            over[placed.place] = _exceeded(full)
            continue
        for room in concerned:
            left[room] -= cost
    return over


def _hopeless(what: str, limit: str) -> InvalidInput:
    detail = f"{what}, all or none, can never pass {limit}: send fewer at once"
    return InvalidInput([FieldError("memories", detail)])


def _exceeded(room: Room) -> BudgetExceeded:
    whose = "the agent's" if room.agent else "the tenant's"
    budget = f"{whose} budget of {exact(room.limit_micro)} a {room.period}"
    return BudgetExceeded(
        f"over {budget}; it begins anew at {room.resets_at:%Y-%m-%d %H:%M} UTC",
        spent_micro=-(-room.used // PICO),
        limit_micro=room.limit_micro,
        resets_at=room.resets_at,
    )


def _free(lane: Lane, tenant: str, shard: int, part: Sequence[Placed]) -> set[int]:
    """The places of items that cost nothing: they bring their vector, it is known, or they were accepted before."""
    brings = {p.place for p in part if p.item.embedding is not None and embedding.fits(lane, p.item.embedding)}
    texts = {p.place: Text(tenant, p.hash) for p in part if p.place not in brings}
    known = embedding_cache.find(lane.cluster, lane.model.name, list(dict.fromkeys(texts.values())))
    cached = {place for place, text in texts.items() if text in known}
    return brings | cached | _accepted_before(lane, tenant, shard, [p for p in part if p.place not in brings | cached])


def _accepted_before(lane: Lane, tenant: str, shard: int, part: Sequence[Placed]) -> set[int]:
    """The places of items whose ids are known. Two with the same id in one part are both new."""
    agents = {placed.item.agent for placed in part}
    numbers = lane.cluster.on(shard, lambda here: lane.numbers.of(here, tenant, agents, register=False))
    keys = {p.place: (numbers[p.item.agent], p.id) for p in part if p.item.agent in numbers}
    found = lane.cluster.on(shard, lambda here: ids.states(here, list(keys.values()))) if keys else {}
    return {place for place, key in keys.items() if key in found}
