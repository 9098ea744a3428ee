"""The front of a synchronous client: what an agent app calls, whatever is behind it."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from time import monotonic
from typing import Any, Literal, Protocol, TypeAlias, TypeVar, Unpack
from uuid import UUID

from uuid_utils.compat import uuid7

from memlane.client.costs import UsageFields, paged
from memlane.client.fields import (
    FilterFields,
    ListFields,
    MemoryFields,
    PageFields,
    RecallFields,
    UpdateFields,
    asked_agents,
)
from memlane.client.receipts import Batch, Goal, LiveReceipt, all_of, asked, late, not_there
from memlane.contract import (
    BatchResult,
    Ledger,
    Memory,
    MemoryItem,
    MemoryUpdate,
    Page,
    PageRequest,
    Parked,
    ParkedPage,
    Recalled,
    RecallRequest,
    Receipt,
    Rejection,
    State,
    Use,
    Version,
    limits,
)
from memlane.contract.cost import (
    Budget,
    Budgets,
    BudgetsRequest,
    History,
    HistoryRequest,
    Period,
    Spending,
    Usage,
    UsageBy,
    UsagePage,
    UsageRequest,
)
from memlane.contract.parked import MemoryNames, ParkedRequest
from memlane.contract.parsing import parse
from memlane.contract.patterns import Pattern
from memlane.contract.rejecting import error_of
from memlane.contract.requests import EmbeddingsRequest, ForgetMatching, Forgetting, MemoryName, ReceiptsRequest
from memlane.errors import InvalidInput, NotFound

Item = MemoryItem | Mapping[str, Any]
"""A memory to be handed over, checked already or as a mapping of its fields."""

ParkedKind: TypeAlias = Literal["remember", "embed"]
"""What a job of a memory is for that was set aside."""

R_co = TypeVar("R_co", covariant=True)


class _OneBatch(Protocol[R_co]):
    @property
    def receipts(self) -> Sequence[R_co | None]: ...

    @property
    def rejections(self) -> Sequence[Rejection]: ...


class Front(ABC):
    """Remember, recall, forget. Everything may be called again: ids are made here, once per memory."""

    def remember(self, agent: str, content: str, **fields: Unpack[MemoryFields]) -> LiveReceipt:
        """Hand over one memory; when this returns it is durable.

        Args:
            agent: whose memory it is.
            content: what is remembered.
            fields: key, kind, importance, tags, metadata, occurred_at, thread, speaker, expires_at, supersedes, pinned,
                as in `MemoryItem`.

        Raises:
            InvalidInput: names the field.
            Conflict: the key holds other content.
            RateLimited: over a rate or a cap, also when it was sent again as often as the client does.
            BudgetExceeded: a budget that refuses has no room for it.
            Unavailable: something is down; nothing was lost that was not reported.
        """
        return only_one(self.remember_many([parse(MemoryItem, {"agent": agent, "content": content, **fields})]))

    def remember_many(self, items: Iterable[Item], *, atomic: bool = False) -> Batch:
        """Hand over up to 1,000 memories; good ones are taken in, bad ones are listed by index.

        Those for which something is down, and those over a rate or a cap, are sent again as often as the client
        repeats a request, when the server says; what is left then is listed with 503 or 429.

        Raises:
            InvalidInput: there are none, too many, or all are bad; for an atomic batch: one is.
            Conflict: an atomic batch holds a key that has other content; nothing was taken in.
            RateLimited, BudgetExceeded: all of it is over a limit.
            Unavailable: nothing could be taken in.
        """
        result = self._remember(with_ids(items), atomic=atomic)
        live = [None if receipt is None else self._live(receipt) for receipt in result.receipts]
        return Batch(live, result.rejections)

    def recall(
        self, agent: str | Sequence[str], query: str, *, limit: int = 10, **filters: Unpack[RecallFields]
    ) -> Recalled:
        """The memories that answer a question best.

        Args:
            agent: whose memory is asked: one agent, or up to 100, whose memories are ranked together.
            query: the question.
            limit: how many hits at most, up to 100.
            filters: the fields of `Filters`: kinds, tags, since, until, thread, metadata, min_importance, pinned,
                include_superseded; and include_recent, include_week, include_old, as in `RecallRequest`.

        Raises:
            InvalidInput: names the field.
            Unavailable: no agent could be asked; where some could, `missing` names the others.
        """
        return self._recall(parse(RecallRequest, {**asked_agents(agent), "query": query, "limit": limit, **filters}))

    def recall_all_agents(self, query: str, *, limit: int = 10, **filters: Unpack[RecallFields]) -> Recalled:
        """The memories of all of the tenant's agents that answer a question best.

        Args:
            query: the question.
            limit: how many hits at most, up to 100.
            filters: as for `recall`.

        Raises:
            InvalidInput: names the field.
            Unavailable: no shard could be asked; where some could, `degraded` names the others. It also says how many
                agents were left out because there are too many memories.
        """
        asked = {"all_agents": True, "query": query, "limit": limit, **filters}
        return self._recall(parse(RecallRequest, asked))

    def get(self, agent: str, id: UUID) -> Memory:
        """One memory.

        Raises:
            NotFound: there is none that is stored and not forgotten.
        """
        return self._get(parse(MemoryName, {"agent": agent, "id": id}))

    def page(self, agent: str, **fields: Unpack[PageFields]) -> Page:
        """One page of an agent's memories; `next` is the cursor of the page after it.

        Args:
            agent: whose memories.
            fields: limit, cursor, oldest_first, vectors, and the fields of `Filters`, as in `PageRequest`.
        """
        return self._page(parse(PageRequest, {"agent": agent, **fields}))

    def memories(self, agent: str, **fields: Unpack[ListFields]) -> Iterator[Memory]:
        """All memories of an agent, page by page; the fields are those of `page`."""
        cursor = None
        limit = limits.VECTOR_ITEMS if fields.get("vectors") else limits.PAGE_ITEMS
        while True:
            page = self.page(agent, limit=limit, cursor=cursor, **fields)
            yield from page.memories
            cursor = page.next
            if cursor is None:
                return

    def forget(self, agent: str, id: UUID) -> Receipt:
        """Forget one memory for good.

        Raises:
            NotFound: nothing was accepted under this id.
        """
        return self._forget(parse(MemoryName, {"agent": agent, "id": id}))

    def update(self, agent: str, id: UUID, **fields: Unpack[UpdateFields]) -> Memory:
        """Change a memory; it as it is then. New content keeps the id and its history, and gets a new vector.

        Args:
            agent: whose memory it is.
            id: the memory's.
            fields: content, kind, importance, tags, metadata, occurred_at, pinned, expires_at, supersedes, as in
                `MemoryUpdate`; those that are not given stay as they are.

        Raises:
            InvalidInput: names the field.
            NotFound: there is none that was accepted and not forgotten.
            Unavailable: it is not stored yet, or something is down.
        """
        return self._update(parse(MemoryName, {"agent": agent, "id": id}), parse(MemoryUpdate, fields))

    def history(self, agent: str, id: UUID) -> Sequence[Version]:
        """What a memory said before, newest first.

        Raises:
            NotFound: there is none that is stored and not forgotten.
        """
        return self._history(parse(MemoryName, {"agent": agent, "id": id}))

    def use(self, agent: str, id: UUID) -> Use:
        """How a memory was used: how often it was recalled, what that still counts for, and how fresh it is.

        Raises:
            NotFound: there is none that is stored and not forgotten.
        """
        return self._use(parse(MemoryName, {"agent": agent, "id": id}))

    def forget_matching(self, agent: str, *, dry_run: bool = False, **filters: Unpack[FilterFields]) -> Forgetting:
        """Forget what an agent was told up to now and passes filters, in the background; how many that are.

        Args:
            agent: whose memories.
            dry_run: only count.
            filters: the fields of `Filters`, at least one; superseded memories count as well.

        Raises:
            InvalidInput: there is no filter.
            NotFound: nothing was accepted for the agent.
        """
        return self._forget_matching(agent, parse(ForgetMatching, {**filters, "dry_run": dry_run}))

    def receipt(self, agent: str, id: UUID) -> LiveReceipt:
        """How far a memory has come.

        Raises:
            NotFound: nothing was accepted under this id.
        """
        found = self._receipts(ReceiptsRequest(receipts=(parse(MemoryName, {"agent": agent, "id": id}),)))
        if not found:
            raise NotFound(f"nothing was accepted under id {id} of this agent")
        return self._live(found[0])

    def wait(self, receipts: Sequence[Receipt], state: Goal = "searchable", timeout: float = 60.0) -> list[LiveReceipt]:
        """Wait until all are stored or searchable; the receipts as they are then, in the same order.

        Raises:
            WaitTimeout: some were not in time.
            NeverReached: one was parked or forgotten.
            NotFound: the server knows nothing of one.
        """
        goal = State(state)
        until = monotonic() + timeout
        known: dict[tuple[str, UUID], Receipt] = {(r.agent, r.id): r for r in receipts}
        while missing := not_there(known.values(), goal):
            left = until - monotonic()
            if left <= 0:
                raise late(missing, goal, timeout)
            part = missing[: limits.BATCH_ITEMS]
            for found in all_of(part, self._receipts(asked(part, state, left))):
                known[found.agent, found.id] = moved(known[found.agent, found.id], found)
        return [self._live(known[r.agent, r.id]) for r in receipts]

    def embed(self, texts: Sequence[str] = (), *, agent: str | None = None) -> int:
        """Make vectors ahead: of texts that will be asked, or of memories that have none; how many jobs that made."""
        return self._embed(parse(EmbeddingsRequest, {"texts": tuple(texts), "agent": agent}))

    def parked_page(
        self,
        *,
        agent: str | None = None,
        id: UUID | None = None,
        kind: ParkedKind | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> ParkedPage:
        """One page of your memories that were set aside, since whoever worked on them died or failed each time.

        Args:
            agent: whose memories; all of yours unless given.
            id: one memory's.
            kind: `remember` for those that are not stored, `embed` for those that wait for their vector.
            limit: how many at most, up to 1,000.
            cursor: `next` of the page before.
        """
        asked = {"agent": agent, "id": id, "kind": kind, "limit": limit, "cursor": cursor}
        return self._parked(parse(ParkedRequest, asked))

    def parked(self, *, agent: str | None = None, kind: ParkedKind | None = None) -> Iterator[Parked]:
        """All memories that were set aside, page by page, with what they say and why."""
        cursor = None
        while True:
            page = self.parked_page(agent=agent, kind=kind, limit=limits.PAGE_ITEMS, cursor=cursor)
            yield from page.parked
            cursor = page.next
            if cursor is None:
                return

    def retry_parked(self, memories: Iterable[Parked | Receipt]) -> int:
        """Try memories that were set aside again, as if nobody had died with them; how many were set aside."""
        return sum(self._retry_parked(named) for named in named_in_batches(memories))

    def drop_parked(self, memories: Iterable[Parked | Receipt]) -> int:
        """Give up what was set aside; how many were. One that was not stored is forgotten for good.

        One that is stored, and only waited for its vector, stays without: it is found by its words, and `embed` asks
        for its vector again.
        """
        return sum(self._drop_parked(named) for named in named_in_batches(memories))

    def budgets(self, *, agent: str | None = None) -> Sequence[Budget]:
        """Your budgets and those of your agents, with what is spent in the period that goes on now.

        Args:
            agent: of this agent alone.
        """
        pages = paged(lambda page: self._budgets(parse(BudgetsRequest, {"agent": agent, **page})))
        return [budget for page in pages for budget in page.budgets]

    def budget_history(
        self, *, agent: str | None = None, period: Period | Literal["day", "month"] | None = None
    ) -> Sequence[Spending]:
        """What was spent of your budgets in each period, the latest first.

        Args:
            agent: of this agent alone.
            period: of daily or of monthly budgets alone.
        """
        asked = {"agent": agent, "period": period}
        pages = paged(lambda page: self._budget_history(parse(HistoryRequest, {**asked, **page})))
        return [spent for page in pages for spent in page.periods]

    def usage(self, by: Sequence[UsageBy | str] = ("day",), **which: Unpack[UsageFields]) -> Sequence[Usage]:
        """What was asked of embeddings providers for you, what it cost and what was saved, added up.

        Args:
            by: what it is added up by: day, tenant, agent, model; all in one without any.
            which: agent, model, since and until, as in `UsageRequest`; the last 30 days unless given.

        Raises:
            InvalidInput: names the field.
        """
        asked = {"by": tuple(by), **which}
        pages = paged(lambda page: self._usage(parse(UsageRequest, {**asked, **page})))
        return [used for page in pages for used in page.usage]

    def _live(self, receipt: Receipt) -> LiveReceipt:
        return LiveReceipt(receipt.id, receipt.agent, receipt.state, receipt.first, receipt.error, client=self)

    @abstractmethod
    def forget_agent(self, agent: str) -> None:
        """Forget everything that was accepted for an agent up to now.

        Raises:
            NotFound: nothing was.
        """

    @abstractmethod
    def optimize(self, agent: str) -> None:
        """Ask for an agent's statistics and index to be brought up to date.

        Raises:
            NotFound: nothing was accepted for it.
        """

    @abstractmethod
    def patterns(self, agent: str) -> Sequence[Pattern]:
        """The questions that an agent is asked again and again, of its last ones, the most frequent first.

        Raises:
            NotFound: nothing was accepted for it.
        """

    @abstractmethod
    def ledger(self) -> Ledger:
        """What became of everything that was handed over."""

    @abstractmethod
    def _remember(self, items: Sequence[MemoryItem | Mapping[str, Any]], *, atomic: bool) -> BatchResult: ...

    @abstractmethod
    def _recall(self, request: RecallRequest) -> Recalled: ...

    @abstractmethod
    def _get(self, name: MemoryName) -> Memory: ...

    @abstractmethod
    def _page(self, request: PageRequest) -> Page: ...

    @abstractmethod
    def _forget(self, name: MemoryName) -> Receipt: ...

    @abstractmethod
    def _update(self, name: MemoryName, wanted: MemoryUpdate) -> Memory: ...

    @abstractmethod
    def _history(self, name: MemoryName) -> Sequence[Version]: ...

    @abstractmethod
    def _use(self, name: MemoryName) -> Use: ...

    @abstractmethod
    def _forget_matching(self, agent: str, wanted: ForgetMatching) -> Forgetting: ...

    @abstractmethod
    def _receipts(self, request: ReceiptsRequest) -> Sequence[Receipt]: ...

    @abstractmethod
    def _embed(self, request: EmbeddingsRequest) -> int: ...

    @abstractmethod
    def _parked(self, request: ParkedRequest) -> ParkedPage: ...

    @abstractmethod
    def _retry_parked(self, named: MemoryNames) -> int: ...

    @abstractmethod
    def _drop_parked(self, named: MemoryNames) -> int: ...

    @abstractmethod
    def _budgets(self, wanted: BudgetsRequest) -> Budgets: ...

    @abstractmethod
    def _budget_history(self, wanted: HistoryRequest) -> History: ...

    @abstractmethod
    def _usage(self, wanted: UsageRequest) -> UsagePage: ...


def with_ids(items: Iterable[Item]) -> list[MemoryItem | Mapping[str, Any]]:
    """The items, each with a name of its own, so that sending it again is recognised.

    An item that is wrong goes to the server as it is, which lists it with the others that are.
    """
    named: list[MemoryItem | Mapping[str, Any]] = []
    for item in items:
        try:
            checked = item if isinstance(item, MemoryItem) else parse(MemoryItem, dict(item))
        except InvalidInput:
            named.append(item)
            continue
        named.append(checked if checked.id or checked.key else checked.model_copy(update={"id": uuid7()}))
    return named


def named_in_batches(memories: Iterable[Parked | Receipt]) -> Iterator[MemoryNames]:
    """The names of memories, as many at once as a request may have."""
    rest = iter(memories)
    while batch := tuple(MemoryName(agent=one.agent, id=one.id) for one in islice(rest, limits.BATCH_ITEMS)):
        yield MemoryNames(memories=batch)


def moved(before: Receipt, found: Receipt) -> Receipt:
    """A receipt with the state that was found; a duplicate stays one and carries the first one's state."""
    if before.state is State.DUPLICATE:
        return replace(before, first=found.state, error=found.error)
    return replace(before, state=found.state, error=found.error)


def only_one(batch: _OneBatch[R_co]) -> R_co:
    """The receipt of a batch of one.

    Raises:
        BudgetExceeded, Conflict, InvalidInput, RateLimited, Unavailable: what it was rejected for.
    """
    for rejection in batch.rejections:
        raise error_of(rejection)
    (receipt,) = batch.receipts
    assert receipt is not None
    return receipt
