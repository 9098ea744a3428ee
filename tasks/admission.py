"""Admission: which items are over a cap of open jobs, or over a budget that refuses. All doors ask here.

Both are looked up in what this process knows: it costs the way in nothing, and is right to a few seconds. What is let
in and turns out to be over a budget waits for its vector; nothing is ever spent that a budget has no room for.
"""

from collections.abc import Sequence

from memlane.contract.money import exact
from memlane.contract.tokens import bound
from memlane.errors import BudgetExceeded, FieldError, InvalidInput, MemlaneError, RateLimited
from memlane.storage import embedding_cache, ids
from memlane.storage.embedding_cache import Text
from memlane.storage.open_jobs import EVERY_S
from memlane.storage.rooms import PICO, Room
from memlane.tasks import embedding
from memlane.tasks.embedders import called
from memlane.tasks.lane import Lane
from memlane.tasks.placed import Placed


def refused(
    lane: Lane, tenant: str, shard: int, part: Sequence[Placed], *, atomic: bool = False
) -> dict[int, MemlaneError]:
    """Which items of a shard's part are refused, by place; the others are counted as open jobs.

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
    rest = [placed.place for placed in part if placed.place not in over]
    cap = lane.cluster.terms.of(tenant).open_jobs
    if cap is None or not rest:
        return over
    if atomic and len(rest) > cap:
        return dict.fromkeys(rest, _hopeless(len(rest), cap))
    let_in = lane.cluster.open_jobs.take(tenant, cap, len(rest), all_or_none=atomic)
    return over | dict.fromkeys(
        rest[let_in:], RateLimited(f"over the cap of {cap} open jobs", EVERY_S, limit="open_jobs")
    )


def foreseen(lane: Lane, tenant: str, shard: int, part: Sequence[Placed]) -> dict[int, MemlaneError]:
    """As `refused`, but takes no room: the others are not handed over yet."""
    over = refused(lane, tenant, shard, part)
    took(lane, tenant, len(part) - len(over), 0)
    return over


def took(lane: Lane, tenant: str, let_in: int, new: int) -> None:
    """Of the items that were let in, so many became jobs; the others had been accepted before, or are in conflict."""
    if new < let_in and lane.cluster.terms.of(tenant).open_jobs is not None:
        lane.cluster.open_jobs.give_back(tenant, let_in - new)


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


def _hopeless(count: int, cap: int) -> InvalidInput:
    detail = f"{count} at once, all or none, can never pass the cap of {cap} open jobs: send fewer at once"
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
