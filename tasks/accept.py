"""Accept: make memories durable. The one function behind all doors.

Steps: give each item its identity, group by shard, leave aside what is over a cap or a budget, and on each shard in
one transaction take the identities, open the jobs and note it in the ledger. Only then somebody is woken, off the
caller's path.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias
from uuid import UUID

from memlane.contract import MemoryItem, Receipt, State
from memlane.errors import Conflict, FieldError, InvalidInput, MemlaneError, NodeDown, Unavailable
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
        let_in = Part(tenant, [placed for placed in part if placed.place not in refused])
        results: dict[int, Result] = {**refused, **(_let_in(lane, shard, [let_in], atomic)[0] if let_in.items else {})}
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
    """Whether a part goes without others: somebody may have to be asked whether it may come in, or it brings vectors."""
    return bool(lane.cluster.rooms.of(part.tenant)) or any(placed.item.embedding for placed in part.items)


def together(lane: Lane, shard: int, parts: Sequence[Part]) -> list[dict[int, Result]]:
    """Accept parts of several callers on one shard in one transaction: each comes out as `on_shard` has it alone.

    What one of them has in it that keeps the whole from being done is done to nobody else: then each goes alone.
    """
    refused = [admission.refused(lane, part.tenant, shard, part.items) for part in parts]
    let_in = [
        Part(part.tenant, [placed for placed in part.items if placed.place not in over])
        for part, over in zip(parts, refused, strict=True)
    ]
    try:
        accepted = _let_in(lane, shard, let_in, atomic=False)
    except NodeDown as error:
        accepted = [dict.fromkeys((placed.place for placed in part.items), error) for part in let_in]
    except MemlaneError:
        accepted = [_by_itself(lane, shard, part) for part in let_in]
    return [{**over, **results} for over, results in zip(refused, accepted, strict=True)]


def _by_itself(lane: Lane, shard: int, part: Part) -> dict[int, Result]:
    try:
        return _let_in(lane, shard, [part], atomic=False)[0]
    except MemlaneError as error:
        return dict.fromkeys((placed.place for placed in part.items), error)


def _let_in(lane: Lane, shard: int, parts: Sequence[Part], atomic: bool) -> list[dict[int, Result]]:
    """Accept what no limit refuses; for each part its results by place."""
    firsts = [_firsts(part) for part in parts]
    offered = [(part.tenant, placed) for part, its in zip(parts, firsts, strict=True) for placed in its.values()]
    if not offered:
        return [{} for _ in parts]
    answers = iter(lane.cluster.on(shard, lambda here: _offer(lane, here, offered, atomic)))
    results = [
        _concluded(lane, part, its, {identity: next(answers) for identity in its})
        for part, its in zip(parts, firsts, strict=True)
    ]
    if any(isinstance(one, Receipt) and one.state is State.ACCEPTED for its in results for one in its.values()):
        lane.wake(Kind.REMEMBER, shard)
    return results


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
    """Offer items of tenants until each is known to be new, a duplicate or a conflict."""
    take = ids.accept_all_or_none if atomic else ids.accept
    offers = _offers(lane, shard, offered)
    answers = take(shard, offers)
    for _ in range(1, _TRIES):
        unseen = [place for place, answer in enumerate(answers) if answer.outcome is Outcome.UNSEEN]
        if not unseen:
            return answers
        if atomic:
            answers = take(shard, offers)
            continue
        for place, answer in zip(unseen, take(shard, [offers[place] for place in unseen]), strict=True):
            answers[place] = answer
    if any(answer.outcome is Outcome.UNSEEN for answer in answers):
        raise Unavailable("the same ids are being accepted by somebody else")
    return answers


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
