"""Accept: make memories durable. The one function behind all doors.

Steps: give each item its identity, group by shard, leave aside what is over a cap or a budget, and on each shard in
one transaction take the identities, open the jobs and note it in the ledger. Only then somebody is woken, off the
caller's path.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias
from uuid import UUID

from memlane.contract import MemoryItem, Receipt, State
from memlane.errors import Conflict, FieldError, InvalidInput, MemlaneError, NodeDown, ShardMoved, Unavailable
from memlane.storage import ids
from memlane.storage.cluster import Shard
from memlane.storage.hashing import text_hash
from memlane.storage.ids import Answer, Offer, Outcome
from memlane.storage.jobs import Kind
from memlane.tasks import admission, embedding
from memlane.tasks.lane import Lane
from memlane.tasks.placed import Placed

Result: TypeAlias = Receipt | MemlaneError
"""What became of one item: Conflict, Unavailable, RateLimited or BudgetExceeded are its own, and harm no other."""

Identity: TypeAlias = tuple[str, UUID]
"""An agent's name and a memory's id."""

_TRIES = 5
"""How often an item is offered whose id somebody else accepts at the same moment."""


@dataclass(frozen=True, slots=True)
class Part:
    """Items of one tenant on their way to one shard."""

    tenant: str
    shard: int
    items: Sequence[Placed]


def accept(lane: Lane, tenant: str, items: Sequence[MemoryItem], *, atomic: bool = False) -> list[Result]:
    """Make memories durable; the results are in the order of the items.

    Args:
        lane: this process's.
        tenant: whose they are.
        items: what to remember.
        atomic: all or none; they have to belong to one agent then.

    Raises:
        InvalidInput: atomic was asked for items of several agents.
        Conflict, Unavailable, RateLimited, BudgetExceeded: for an atomic batch; nothing was accepted.
    """
    parts = place(lane, tenant, items, atomic=atomic)
    results = [
        result for shard, part in parts.items() for result in on_shard(lane, tenant, shard, part, atomic).items()
    ]
    return [result for _, result in sorted(results, key=lambda pair: pair[0])]


def place(lane: Lane, tenant: str, items: Sequence[MemoryItem], *, atomic: bool) -> dict[int, list[Placed]]:
    """The items with their identities, by shard.

    Raises:
        InvalidInput: atomic was asked for items of several agents.
    """
    if atomic and len({item.agent for item in items}) > 1:
        raise InvalidInput([FieldError("atomic", "needs all items to belong to one agent")])
    parts: defaultdict[int, list[Placed]] = defaultdict(list)
    for number, item in enumerate(items):
        placed = Placed(number, item, item.identity(tenant), text_hash(item.text))
        parts[lane.cluster.shard_of(tenant, item.agent)].append(placed)
    return parts


def on_shard(lane: Lane, tenant: str, shard: int, part: Sequence[Placed], atomic: bool = False) -> dict[int, Result]:
    """Accept one shard's part of a batch; results by place in the batch.

    Raises:
        Conflict, Unavailable, RateLimited, BudgetExceeded: for an atomic batch; nothing was accepted.
    """
    try:
        refused = admission.refused(lane, tenant, shard, part, atomic=atomic)
        let_in = Part(tenant, shard, [placed for placed in part if placed.place not in refused])
        results: dict[int, Result] = {**refused, **_let_in(lane, [let_in], atomic)[0]}
    except Unavailable as error:
        if atomic:
            raise
        return dict.fromkeys((placed.place for placed in part), error)
    if atomic:
        for result in results.values():
            if isinstance(result, MemlaneError):
                raise result
    return results


def alone(lane: Lane, part: Part) -> bool:
    """Whether a part goes without others: whether it may come in may have to be asked, or it brings vectors."""
    return bool(lane.cluster.rooms.of(part.tenant)) or any(placed.item.embedding for placed in part.items)


def together(lane: Lane, parts: Sequence[Part]) -> list[dict[int, Result]]:
    """Accept parts of several callers in one transaction of their node: each comes out as `on_shard` has it alone.

    What one of them has in it that keeps the whole from being done is done to nobody else: then each shard goes alone,
    and there each part.
    """
    refused = [_refused(lane, part) for part in parts]
    let_in = [
        replace(part, items=[placed for placed in part.items if placed.place not in over])
        for part, over in zip(parts, refused, strict=True)
    ]
    accepted = _narrowed(lane, let_in)
    return [{**over, **results} for over, results in zip(refused, accepted, strict=True)]


def _refused(lane: Lane, part: Part) -> dict[int, MemlaneError]:
    """Which items of a part are refused; all where it cannot be said."""
    try:
        return admission.refused(lane, part.tenant, part.shard, part.items)
    except Unavailable as error:
        return dict.fromkeys((placed.place for placed in part.items), error)


def _narrowed(lane: Lane, parts: Sequence[Part]) -> list[dict[int, Result]]:
    """Accept parts at once; where that cannot be, shard by shard, and then part by part."""
    try:
        return _let_in(lane, parts, atomic=False)
    except MemlaneError as error:
        if isinstance(error, NodeDown) or len(parts) == 1:
            return [dict.fromkeys((placed.place for placed in part.items), error) for part in parts]
    places: defaultdict[int, list[int]] = defaultdict(list)
    for place, part in enumerate(parts):
        places[part.shard].append(place)
    smaller = list(places.values()) if len(places) > 1 else [[place] for place in range(len(parts))]
    found = {
        place: results
        for some in smaller
        for place, results in zip(some, _narrowed(lane, [parts[place] for place in some]), strict=True)
    }
    return [found[place] for place in range(len(parts))]


def _let_in(lane: Lane, parts: Sequence[Part], atomic: bool) -> list[dict[int, Result]]:
    """Accept what no limit refuses; for each part its results by place."""
    firsts = [_firsts(part) for part in parts]
    offered: defaultdict[int, list[tuple[str, Placed]]] = defaultdict(list)
    for part, its in zip(parts, firsts, strict=True):
        if its:
            offered[part.shard] += [(part.tenant, placed) for placed in its.values()]
    answers = {number: iter(found) for number, found in _offered(lane, offered, atomic).items()}
    results = [
        _concluded(lane, part, its, {identity: next(answers[part.shard]) for identity in its})
        for part, its in zip(parts, firsts, strict=True)
    ]
    for number in {part.shard for part, its in zip(parts, results, strict=True) if _any_new(its)}:
        lane.wake(Kind.REMEMBER, number)
    return results


def _any_new(results: Mapping[int, Result]) -> bool:
    return any(isinstance(one, Receipt) and one.state is State.ACCEPTED for one in results.values())


def _offered(
    lane: Lane, offered: Mapping[int, Sequence[tuple[str, Placed]]], atomic: bool
) -> Mapping[int, list[Answer]]:
    """What became of the items of each shard."""
    if not offered:
        return {}
    if len(offered) == 1:
        ((number, items),) = offered.items()
        return {number: lane.cluster.on(number, lambda here: _offer(lane, here, items, atomic))}
    shards = [lane.cluster.shard(number) for number in sorted(offered)]
    if len({shard.node.name for shard in shards}) > 1:
        raise ShardMoved("some of the shards have moved to another node")
    batches = [(shard, _offers(lane, shard, offered[shard.number])) for shard in shards]
    return {
        shard.number: _again(shard, offers, answers)
        for (shard, offers), answers in zip(batches, ids.accept_at_once(batches), strict=True)
    }


def _firsts(part: Part) -> dict[Identity, Placed]:
    """The items of a part, of several with the same identity only the first."""
    firsts: dict[Identity, Placed] = {}
    for placed in part.items:
        firsts.setdefault(placed.identity, placed)
    return firsts


def _concluded(
    lane: Lane, part: Part, firsts: Mapping[Identity, Placed], answers: Mapping[Identity, Answer]
) -> dict[int, Result]:
    """What a part came to, noted and by place."""
    new = [placed for identity, placed in firsts.items() if answers[identity].outcome is Outcome.ACCEPTED]
    admission.took(lane, part.tenant, part.items, new)
    if given := {p.hash: p.item.embedding for p in new if p.item.embedding is not None}:
        embedding.keep_given(lane, part.tenant, given)
    return {placed.place: _result(placed, answers, firsts) for placed in part.items}


def _offer(lane: Lane, shard: Shard, offered: Sequence[tuple[str, Placed]], atomic: bool) -> list[Answer]:
    """Offer items of tenants to a shard."""
    offers = _offers(lane, shard, offered)
    if not atomic:
        return _again(shard, offers, ids.accept(shard, offers))
    for _ in range(_TRIES):
        answers = ids.accept_all_or_none(shard, offers)
        if not _unseen(answers):
            return answers
    raise _taken_elsewhere()


def _again(shard: Shard, offers: Sequence[Offer], answers: list[Answer]) -> list[Answer]:
    """Offer those again that somebody else accepted at the same moment, until each is a duplicate or a conflict."""
    for _ in range(1, _TRIES):
        unseen = _unseen(answers)
        if not unseen:
            return answers
        for place, answer in zip(unseen, ids.accept(shard, [offers[place] for place in unseen]), strict=True):
            answers[place] = answer
    if _unseen(answers):
        raise _taken_elsewhere()
    return answers


def _unseen(answers: Sequence[Answer]) -> list[int]:
    return [place for place, answer in enumerate(answers) if answer.outcome is Outcome.UNSEEN]


def _taken_elsewhere() -> Unavailable:
    return Unavailable("the same ids are being accepted by somebody else")


def _offers(lane: Lane, shard: Shard, offered: Sequence[tuple[str, Placed]]) -> list[Offer]:
    agents: defaultdict[str, set[str]] = defaultdict(set)
    for tenant, placed in offered:
        agents[tenant].add(placed.item.agent)
    numbers = {tenant: lane.numbers.of(shard, tenant, names, register=True) for tenant, names in agents.items()}
    return [
        Offer(tenant, numbers[tenant][p.item.agent], p.id, p.hash, p.item.thread, payload(p.item))
        for tenant, p in offered
    ]


def payload(item: MemoryItem) -> dict[str, Any]:
    """What a remember job carries: the memory's fields, without those that are empty."""
    fields: dict[str, Any] = {
        "key": item.key,
        "kind": item.kind,
        "content": item.content,
        "speaker": item.speaker,
        "thread": item.thread,
        "importance": item.importance,
        "tags": list(item.tags),
        "metadata": item.metadata,
        "occurred_at": item.occurred_at.isoformat() if item.occurred_at else None,
        "expires_at": item.expires_at.isoformat() if item.expires_at else None,
        "supersedes": str(item.supersedes) if item.supersedes else None,
        "pinned": item.pinned or None,
    }
    return {name: value for name, value in fields.items() if value not in (None, [], {})}


def _result(placed: Placed, answers: Mapping[Identity, Answer], firsts: Mapping[Identity, Placed]) -> Result:
    """The receipt of an item, or the conflict; a second one in the same batch is judged by the first."""
    answer = answers[placed.identity]
    first = firsts[placed.identity]
    if answer.outcome is Outcome.CONFLICT or first.hash != placed.hash:
        name = f"key {placed.item.key!r}" if placed.item.key else f"id {placed.id}"
        return Conflict(f"{name} of this agent holds other content: memory {placed.id}", first=placed.id)
    if answer.state is State.FORGOTTEN:
        return Receipt(placed.id, placed.item.agent, State.FORGOTTEN)
    if answer.outcome is Outcome.DUPLICATE or first is not placed:
        return Receipt(placed.id, placed.item.agent, State.DUPLICATE, first=answer.state or State.ACCEPTED)
    return Receipt(placed.id, placed.item.agent, State.ACCEPTED)
