"""Accept: make memories durable. The one function behind all doors.

Steps: give each item its identity, group by shard, leave aside what is over a cap or a budget, and on each shard in
one transaction take the identities, open the jobs and note it in the ledger. Only then somebody is woken, off the
caller's path.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias
from uuid import UUID

from memlane.contract import MemoryItem, Receipt, State
from memlane.errors import Conflict, FieldError, InvalidInput, MemlaneError, Unavailable
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

_TRIES = 5
"""How often an item is offered again whose id somebody else accepts at the same moment."""


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
        let_in = [placed for placed in part if placed.place not in refused]
        results: dict[int, Result] = {**refused, **(_let_in(lane, tenant, shard, let_in, atomic) if let_in else {})}
    except Unavailable as error:
        if atomic:
            raise
        return dict.fromkeys((placed.place for placed in part), error)
    if atomic:
        for result in results.values():
            if isinstance(result, MemlaneError):
                raise result
    return results


def _let_in(lane: Lane, tenant: str, shard: int, part: Sequence[Placed], atomic: bool) -> dict[int, Result]:
    """Accept what no limit refuses."""
    firsts: dict[tuple[str, UUID], Placed] = {}
    for placed in part:
        firsts.setdefault(placed.identity, placed)
    answers = lane.cluster.on(shard, lambda here: _offer(lane, here, tenant, list(firsts.values()), atomic))
    new = [placed for placed in firsts.values() if answers[placed.identity].outcome is Outcome.ACCEPTED]
    admission.took(lane, tenant, part, new)
    embedding.keep_given(lane, tenant, {p.hash: p.item.embedding for p in new if p.item.embedding is not None})
    if new:
        lane.wake(Kind.REMEMBER, shard)
    return {placed.place: _result(placed, answers, firsts) for placed in part}


def _offer(
    lane: Lane, shard: Shard, tenant: str, part: Sequence[Placed], atomic: bool
) -> Mapping[tuple[str, UUID], Answer]:
    """Offer items until each is known to be new, a duplicate or a conflict."""
    numbers = lane.numbers.of(shard, tenant, {placed.item.agent for placed in part}, register=True)
    take = ids.accept_all_or_none if atomic else ids.accept
    answers: dict[tuple[str, UUID], Answer] = {}
    open_ = list(part)
    for _ in range(_TRIES):
        offers = [Offer(numbers[p.item.agent], p.id, p.hash, p.item.thread, payload(p.item)) for p in open_]
        answers |= {p.identity: a for p, a in zip(open_, take(shard, tenant, offers), strict=True)}
        unseen = [p for p in open_ if answers[p.identity].outcome is Outcome.UNSEEN]
        if not unseen:
            return answers
        open_ = open_ if atomic else unseen
    raise Unavailable("the same ids are being accepted by somebody else")


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


def _result(
    placed: Placed, answers: Mapping[tuple[str, UUID], Answer], firsts: Mapping[tuple[str, UUID], Placed]
) -> Result:
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
