"""For the tests of agent apps: a client that keeps everything in memory and behaves as the real one.

    from memlane.testing import InMemoryClient

    def test_my_agent():
        client = InMemoryClient()
        my_agent(client)
        assert client.recall("agent-1", "tea").hits

Identity, duplicates, conflicts, forgetting, filters and pages are those of the server: both are held to
the same tests. Everything is searchable at once, and found by its words, without a model.
"""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from math import log
from typing import Any
from uuid import UUID, uuid4

from memlane.client.front import Front
from memlane.contract import (
    BatchResult,
    Event,
    Filters,
    Hit,
    Ledger,
    Memory,
    MemoryItem,
    MemoryUpdate,
    Page,
    PageRequest,
    ParkedPage,
    Parts,
    Recalled,
    RecallRequest,
    Receipt,
    Rejection,
    State,
    Use,
    Version,
    limits,
)
from memlane.contract.cost import Budgets, BudgetsRequest, History, HistoryRequest, UsagePage, UsageRequest
from memlane.contract.memory import spoken
from memlane.contract.parked import MemoryNames, ParkedRequest
from memlane.contract.parsing import parse_items
from memlane.contract.patterns import Pattern
from memlane.contract.requests import EmbeddingsRequest, ForgetMatching, Forgetting, MemoryName, ReceiptsRequest
from memlane.contract.tiers import BORN, decayed, tier_of
from memlane.errors import Conflict, FieldError, InvalidInput, NotFound

_TENANT = "test"


@dataclass
class _Identity:
    """A memory that was accepted once; `memory` is None after it was forgotten."""

    number: int
    text: str
    memory: Memory | None
    versions: list[Version] = field(default_factory=list)


class InMemoryClient(Front):
    """A `Client` without a server."""

    def __init__(self) -> None:
        self._ids: dict[tuple[str, UUID], _Identity] = {}
        self._events: Counter[Event] = Counter()

    def forget_agent(self, agent: str) -> None:  # noqa: D102  # as in Front
        for (owner, _), identity in self._ids.items():
            if owner == agent:
                self._drop(identity)
        self._known(agent)

    def optimize(self, agent: str) -> None:  # noqa: D102  # as in Front
        self._known(agent)

    def patterns(self, agent: str) -> Sequence[Pattern]:  # noqa: D102  # as in Front; nobody looks for any here
        self._known(agent)
        return ()

    def ledger(self) -> Ledger:  # noqa: D102  # as in Front
        return Ledger({event: self._events[event] for event in Event}, open=0, parked=0)

    def _remember(self, items: Sequence[MemoryItem | Mapping[str, Any]], *, atomic: bool) -> BatchResult:
        if not 0 < len(items) <= limits.BATCH_ITEMS:
            raise InvalidInput([FieldError("memories", f"must be a list of 1 to {limits.BATCH_ITEMS}")])
        parsed = parse_items(items)
        self._events[Event.REJECTED] += len(items) - len(parsed.items)
        if parsed.errors and (atomic or not parsed.items):
            raise InvalidInput(parsed.errors)
        if atomic:
            self._check_atomic(parsed.items)
        receipts: list[Receipt | None] = [None] * len(items)
        rejections = [Rejection(e.index or 0, 422, e.detail, e.field) for e in parsed.errors]
        for place, item in zip(parsed.places, parsed.items, strict=True):
            try:
                receipts[place] = self._accept(item)
            except Conflict as error:
                rejections.append(Rejection(place, 409, str(error), first=error.first))
        return BatchResult.of(receipts, rejections)

    def _check_atomic(self, items: Sequence[MemoryItem]) -> None:
        if len({item.agent for item in items}) > 1:
            raise InvalidInput([FieldError("atomic", "needs all items to belong to one agent")])
        texts: dict[UUID, str] = {}
        for item in items:
            id_ = item.identity(_TENANT)
            before = self._ids.get((item.agent, id_))
            if texts.setdefault(id_, before.text if before else item.text) != item.text:
                raise _conflict(item, id_)

    def _accept(self, item: MemoryItem) -> Receipt:
        id_ = item.identity(_TENANT)
        before = self._ids.get((item.agent, id_))
        if before is None:
            self._ids[item.agent, id_] = _Identity(len(self._ids) + 1, item.text, _memory(item, id_))
            self._events.update([Event.ACCEPTED, Event.STORED, Event.EMBEDDED])
            return Receipt(id_, item.agent, State.ACCEPTED)
        if before.text != item.text:
            self._events[Event.REJECTED] += 1
            raise _conflict(item, id_)
        self._events[Event.DUPLICATE] += 1
        if before.memory is None:
            return Receipt(id_, item.agent, State.FORGOTTEN)
        return Receipt(id_, item.agent, State.DUPLICATE, first=State.SEARCHABLE)

    def _recall(self, request: RecallRequest) -> Recalled:
        found = [memory for name in self._asked(request) for _, memory in self._of(name, request.filters)]
        texts = [_words(spoken(memory.speaker, memory.content)) for memory in found]
        hits = []
        for memory, words in zip(found, texts, strict=True):
            shared = _words(request.query) & words
            score = sum(log(1 + len(texts) / sum(word in other for other in texts)) for word in shared)
            hits.append(Hit(memory, score, Parts(text=score or None)))
        return Recalled(tuple(sorted(hits, key=lambda hit: -hit.score)[: request.limit]))

    def _asked(self, request: RecallRequest) -> Sequence[str]:
        """Whose memories are asked."""
        return sorted({agent for agent, _ in self._ids}) if request.all_agents else request.names

    def _get(self, name: MemoryName) -> Memory:
        memory = self._alive(name).memory
        assert memory is not None
        return replace(memory, superseded_by=self._successor(memory))

    def _page(self, request: PageRequest) -> Page:
        found = self._of(request.agent, request.filters)
        if request.oldest_first:
            found = found[::-1]
        if request.cursor is not None:
            last = int(request.cursor)
            found = [(n, memory) for n, memory in found if (n > last if request.oldest_first else n < last)]
        more = len(found) > request.limit
        page = found[: request.limit]
        return Page(tuple(memory for _, memory in page), str(page[-1][0]) if more else None)

    def _forget(self, name: MemoryName) -> Receipt:
        identity = self._ids.get((name.agent, name.id))
        if identity is None:
            raise NotFound(f"there is no memory {name.id} of this agent")
        self._drop(identity)
        return Receipt(name.id, name.agent, State.FORGOTTEN)

    def _update(self, name: MemoryName, wanted: MemoryUpdate) -> Memory:
        identity = self._alive(name)
        before = self._get(name)
        given = dict(wanted.given)
        if "metadata" in given:
            given["metadata"] = json.loads(json.dumps(given["metadata"]))
        if given.get("supersedes") not in (None, before.supersedes):
            self._check_successor(name, given["supersedes"])
        after = replace(before, **given)
        if after.content != before.content:
            identity.versions.insert(0, Version(before.version, before.content, datetime.now(UTC)))
            after = replace(after, version=before.version + 1)
            self._events[Event.EMBEDDED] += 1
        if after != before:
            identity.memory = replace(after, superseded_by=None, changed_at=datetime.now(UTC))
            self._events[Event.UPDATED] += 1
        assert identity.memory is not None
        return replace(identity.memory, superseded_by=self._successor(identity.memory))

    def _check_successor(self, name: MemoryName, supersedes: UUID) -> None:
        seen: set[UUID] = set()
        link: UUID | None = supersedes
        while link is not None and link not in seen:
            if link == name.id:
                raise Conflict("the two would take each other's place: neither could be seen", first=supersedes)
            seen.add(link)
            identity = self._ids.get((name.agent, link))
            link = identity.memory.supersedes if identity and identity.memory else None

    def _history(self, name: MemoryName) -> Sequence[Version]:
        return tuple(self._alive(name).versions[: limits.HISTORY_ITEMS])

    def _use(self, name: MemoryName) -> Use:
        memory = self._alive(name).memory
        assert memory is not None
        now = datetime.now(UTC)
        hours = (now - memory.created_at).total_seconds() / 3600
        return Use(0, decayed(BORN, hours), tier_of(memory.created_at, now))

    def _forget_matching(self, agent: str, wanted: ForgetMatching) -> Forgetting:
        self._known(agent)
        found = [identity for memory, identity in self._own(agent) if _passes(memory, wanted)]
        if wanted.dry_run or not found:
            return Forgetting(agent, len(found))
        for identity in found:
            self._drop(identity)
        return Forgetting(agent, len(found), uuid4())

    def _receipts(self, request: ReceiptsRequest) -> Sequence[Receipt]:
        found = [(name, self._ids.get((name.agent, name.id))) for name in request.receipts]
        return [
            Receipt(name.id, name.agent, State.SEARCHABLE if identity.memory else State.FORGOTTEN)
            for name, identity in found
            if identity is not None
        ]

    def _embed(self, request: EmbeddingsRequest) -> int:
        return len(set(request.texts))

    def _parked(self, _request: ParkedRequest) -> ParkedPage:  # nobody dies of anything here
        return ParkedPage(())

    def _retry_parked(self, _named: MemoryNames) -> int:
        return 0

    def _drop_parked(self, _named: MemoryNames) -> int:
        return 0

    def _budgets(self, _wanted: BudgetsRequest) -> Budgets:  # and nothing costs anything
        return Budgets(())

    def _budget_history(self, _wanted: HistoryRequest) -> History:
        return History(())

    def _usage(self, _wanted: UsageRequest) -> UsagePage:
        return UsagePage(())

    def _of(self, agent: str, filters: Filters) -> list[tuple[int, Memory]]:
        """An agent's memories that pass the filters, newest first, with their numbers."""
        found = [
            (identity.number, replace(memory, superseded_by=self._successor(memory)))
            for memory, identity in self._own(agent)
            if _passes(memory, filters)
            and not _expired(memory)
            and (filters.include_superseded or self._successor(memory) is None)
        ]
        return sorted(found, key=lambda pair: -pair[0])

    def _own(self, agent: str) -> list[tuple[Memory, _Identity]]:
        """An agent's memories that are not forgotten, with their identities."""
        return [
            (identity.memory, identity)
            for (owner, _), identity in self._ids.items()
            if owner == agent and identity.memory is not None
        ]

    def _successor(self, memory: Memory) -> UUID | None:
        """The newest memory that takes the place of one."""
        found = [m for m, _ in self._own(memory.agent) if m.supersedes == memory.id != m.id and not _expired(m)]
        return found[-1].id if found else None

    def _alive(self, name: MemoryName) -> _Identity:
        identity = self._ids.get((name.agent, name.id))
        if identity is None or identity.memory is None or _expired(identity.memory):
            raise NotFound(f"there is no memory {name.id} of this agent")
        return identity

    def _known(self, agent: str) -> None:
        if not any(owner == agent for owner, _ in self._ids):
            raise NotFound("nothing was accepted for this agent yet")

    def _drop(self, identity: _Identity) -> None:
        if identity.memory is not None:
            for other, heir in self._own(identity.memory.agent):
                if other.supersedes == identity.memory.id:
                    heir.memory = replace(other, supersedes=identity.memory.supersedes)
            identity.memory = None
            identity.versions.clear()
            self._events[Event.FORGOTTEN] += 1


def _memory(item: MemoryItem, id_: UUID) -> Memory:
    now = datetime.now(UTC)
    return Memory(
        id=id_,
        agent=item.agent,
        content=item.content,
        kind=item.kind,
        importance=item.importance,
        tags=item.tags,
        metadata=json.loads(json.dumps(item.metadata)),
        occurred_at=item.occurred_at or now,
        created_at=now,
        key=item.key,
        thread=item.thread,
        speaker=item.speaker,
        expires_at=item.expires_at,
        pinned=item.pinned,
        supersedes=item.supersedes,
    )


def _expired(memory: Memory) -> bool:
    return memory.expires_at is not None and memory.expires_at <= datetime.now(UTC)


def _conflict(item: MemoryItem, id_: UUID) -> Conflict:
    return Conflict(f"key {item.key!r} of this agent holds other content: memory {id_}", first=id_)


def _passes(memory: Memory, filters: Filters) -> bool:
    return (
        (not filters.kinds or memory.kind in filters.kinds)
        and set(filters.tags) <= set(memory.tags)
        and (filters.since is None or memory.occurred_at >= filters.since)
        and (filters.until is None or memory.occurred_at < filters.until)
        and (filters.thread is None or memory.thread == filters.thread)
        and _contains(memory.metadata, filters.metadata)
        and memory.importance >= filters.min_importance
        and filters.pinned in (None, memory.pinned)
    )


def _contains(value: Any, part: Any) -> bool:
    """JSON containment as Postgres defines it for jsonb's @>."""
    if isinstance(part, Mapping):
        return isinstance(value, Mapping) and all(k in value and _contains(value[k], v) for k, v in part.items())
    if isinstance(part, list):
        return isinstance(value, list) and all(any(_contains(one, wanted) for one in value) for wanted in part)
    return bool(value == part and isinstance(value, bool) == isinstance(part, bool))


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.lower()))
