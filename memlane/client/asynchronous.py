"""The client over HTTP for asyncio; the same calls, awaited."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from time import monotonic
from types import TracebackType
from typing import Any, Literal, Self, TypeVar, Unpack
from uuid import UUID

from memlane.client import calls, costs
from memlane.client.address import resolve
from memlane.client.calls import Call
from memlane.client.costs import UsageFields, paged_async
from memlane.client.fields import (
    FilterFields,
    ListFields,
    MemoryFields,
    PageFields,
    RecallFields,
    UpdateFields,
    asked_agents,
)
from memlane.client.front import Item, ParkedKind, moved, named_in_batches, only_one, with_ids
from memlane.client.http import Answer
from memlane.client.receipts import AsyncBatch, AsyncReceipt, Goal, all_of, asked, late, not_there
from memlane.client.rest import merged, pause_before, refused, retryable
from memlane.client.retrying import Retries, pause_s
from memlane.client.synchronous import headers
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
from memlane.contract.parked import ParkedRequest
from memlane.contract.parsing import parse
from memlane.contract.patterns import Pattern
from memlane.contract.requests import EmbeddingsRequest, ForgetMatching, Forgetting, MemoryName, ReceiptsRequest
from memlane.errors import BudgetExceeded, NotFound, Unavailable

T = TypeVar("T")


class AsyncClient:
    """memlane over HTTP for asyncio; the arguments and methods are those of `Client`."""

    def __init__(
        self, url: str | None = None, api_key: str | None = None, *, timeout: float = 30.0, retries: int = 5
    ) -> None:
        url, api_key = resolve(url, api_key)
        self._timeout = timeout
        self._retries = Retries(retries)
        from memlane.client.async_http import AsyncConnections  # whoever does without asyncio need not load aiohttp

        self._headers = headers(api_key)
        self._connections = AsyncConnections(url)

    async def close(self) -> None:
        """Close the connections."""
        await self._connections.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, stack: TracebackType | None
    ) -> None:
        await self.close()

    async def send(self, call: Call[T]) -> T:
        """As `Client.send`."""
        pauses = self._retries.pauses()
        while True:
            try:
                return calls.understand(call, await self._request(call))
            except Unavailable as error:
                planned = next(pauses, None)
                if planned is None:
                    raise
                await asyncio.sleep(pause_s(planned, error))

    async def _request(self, call: Call[Any]) -> Answer:
        return await self._connections.send(calls.request_of(call, self._headers, self._timeout))

    async def remember(self, agent: str, content: str, **fields: Unpack[MemoryFields]) -> AsyncReceipt:
        """As `Client.remember`."""
        return only_one(await self.remember_many([parse(MemoryItem, {"agent": agent, "content": content, **fields})]))

    async def remember_many(self, items: Iterable[Item], *, atomic: bool = False) -> AsyncBatch:
        """As `Client.remember_many`."""
        result = await self._remember(with_ids(items), atomic=atomic)
        live = [None if receipt is None else self._live(receipt) for receipt in result.receipts]
        return AsyncBatch(live, result.rejections)

    async def recall(
        self, agent: str | Sequence[str], query: str, *, limit: int = 10, **filters: Unpack[RecallFields]
    ) -> Recalled:
        """As `Client.recall`."""
        request = parse(RecallRequest, {**asked_agents(agent), "query": query, "limit": limit, **filters})
        return await self.send(calls.recall(request))

    async def recall_all_agents(self, query: str, *, limit: int = 10, **filters: Unpack[RecallFields]) -> Recalled:
        """As `Client.recall_all_agents`."""
        asked = {"all_agents": True, "query": query, "limit": limit, **filters}
        return await self.send(calls.recall(parse(RecallRequest, asked)))

    async def get(self, agent: str, id: UUID) -> Memory:
        """As `Client.get`."""
        name = parse(MemoryName, {"agent": agent, "id": id})
        return await self.send(calls.get(name.agent, name.id))

    async def page(self, agent: str, **fields: Unpack[PageFields]) -> Page:
        """As `Client.page`."""
        return await self.send(calls.page(parse(PageRequest, {"agent": agent, **fields})))

    async def memories(self, agent: str, **fields: Unpack[ListFields]) -> AsyncIterator[Memory]:
        """As `Client.memories`."""
        cursor = None
        limit = limits.VECTOR_ITEMS if fields.get("vectors") else limits.PAGE_ITEMS
        while True:
            page = await self.page(agent, limit=limit, cursor=cursor, **fields)
            for memory in page.memories:
                yield memory
            cursor = page.next
            if cursor is None:
                return

    async def forget(self, agent: str, id: UUID) -> Receipt:
        """As `Client.forget`."""
        name = parse(MemoryName, {"agent": agent, "id": id})
        return await self.send(calls.forget(name.agent, name.id))

    async def forget_agent(self, agent: str) -> None:
        """As `Client.forget_agent`."""
        await self.send(calls.forget_agent(agent))

    async def receipt(self, agent: str, id: UUID) -> AsyncReceipt:
        """As `Client.receipt`."""
        request = ReceiptsRequest(receipts=(parse(MemoryName, {"agent": agent, "id": id}),))
        found = await self.send(calls.receipts(request))
        if not found:
            raise NotFound(f"nothing was accepted under id {id} of this agent")
        return self._live(found[0])

    async def wait(
        self, receipts: Sequence[Receipt], state: Goal = "searchable", timeout: float = 60.0
    ) -> list[AsyncReceipt]:
        """As `Client.wait`."""
        goal = State(state)
        until = monotonic() + timeout
        known: dict[tuple[str, UUID], Receipt] = {(r.agent, r.id): r for r in receipts}
        while missing := not_there(known.values(), goal):
            left = until - monotonic()
            if left <= 0:
                raise late(missing, goal, timeout)
            part = missing[: limits.BATCH_ITEMS]
            answer = await self.send(calls.receipts(asked(part, state, left)))
            for found in all_of(part, answer):
                known[found.agent, found.id] = moved(known[found.agent, found.id], found)
        return [self._live(known[r.agent, r.id]) for r in receipts]

    async def update(self, agent: str, id: UUID, **fields: Unpack[UpdateFields]) -> Memory:
        """As `Client.update`."""
        name = parse(MemoryName, {"agent": agent, "id": id})
        return await self.send(calls.update(name.agent, name.id, parse(MemoryUpdate, fields)))

    async def history(self, agent: str, id: UUID) -> Sequence[Version]:
        """As `Client.history`."""
        name = parse(MemoryName, {"agent": agent, "id": id})
        return await self.send(calls.history(name.agent, name.id))

    async def use(self, agent: str, id: UUID) -> Use:
        """As `Client.use`."""
        name = parse(MemoryName, {"agent": agent, "id": id})
        return await self.send(calls.use(name.agent, name.id))

    async def forget_matching(
        self, agent: str, *, dry_run: bool = False, **filters: Unpack[FilterFields]
    ) -> Forgetting:
        """As `Client.forget_matching`."""
        wanted = parse(ForgetMatching, {**filters, "dry_run": dry_run})
        return await self.send(calls.forget_matching(agent, wanted))

    async def embed(self, texts: Sequence[str] = (), *, agent: str | None = None) -> int:
        """As `Client.embed`."""
        return await self.send(calls.embed(parse(EmbeddingsRequest, {"texts": tuple(texts), "agent": agent})))

    async def parked_page(
        self,
        *,
        agent: str | None = None,
        id: UUID | None = None,
        kind: ParkedKind | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> ParkedPage:
        """As `Client.parked_page`."""
        asked = {"agent": agent, "id": id, "kind": kind, "limit": limit, "cursor": cursor}
        return await self.send(calls.parked(parse(ParkedRequest, asked)))

    async def parked(self, *, agent: str | None = None, kind: ParkedKind | None = None) -> AsyncIterator[Parked]:
        """As `Client.parked`."""
        cursor = None
        while True:
            page = await self.parked_page(agent=agent, kind=kind, limit=limits.PAGE_ITEMS, cursor=cursor)
            for one in page.parked:
                yield one
            cursor = page.next
            if cursor is None:
                return

    async def retry_parked(self, memories: Iterable[Parked | Receipt]) -> int:
        """As `Client.retry_parked`."""
        return sum([(await self.send(calls.retry_parked(named))).changed for named in named_in_batches(memories)])

    async def drop_parked(self, memories: Iterable[Parked | Receipt]) -> int:
        """As `Client.drop_parked`."""
        return sum([(await self.send(calls.drop_parked(named))).changed for named in named_in_batches(memories)])

    async def budgets(self, *, agent: str | None = None) -> Sequence[Budget]:
        """As `Client.budgets`."""

        async def read(place: Mapping[str, Any]) -> Budgets:
            return await self.send(costs.budgets(costs.OWN, parse(BudgetsRequest, {"agent": agent, **place})))

        return [budget async for page in paged_async(read) for budget in page.budgets]

    async def budget_history(
        self, *, agent: str | None = None, period: Period | Literal["day", "month"] | None = None
    ) -> Sequence[Spending]:
        """As `Client.budget_history`."""

        async def read(place: Mapping[str, Any]) -> History:
            wanted = parse(HistoryRequest, {"agent": agent, "period": period, **place})
            return await self.send(costs.history(costs.OWN, wanted))

        return [spending async for page in paged_async(read) for spending in page.periods]

    async def usage(self, by: Sequence[UsageBy | str] = ("day",), **which: Unpack[UsageFields]) -> Sequence[Usage]:
        """As `Client.usage`."""

        async def read(place: Mapping[str, Any]) -> UsagePage:
            return await self.send(costs.usage(costs.OWN, parse(UsageRequest, {"by": tuple(by), **which, **place})))

        return [usage async for page in paged_async(read) for usage in page.usage]

    async def optimize(self, agent: str) -> None:
        """As `Client.optimize`."""
        await self.send(calls.optimize(agent))

    async def patterns(self, agent: str) -> Sequence[Pattern]:
        """As `Client.patterns`."""
        return await self.send(calls.patterns(agent))

    async def ledger(self) -> Ledger:
        """As `Client.ledger`."""
        return await self.send(calls.ledger())

    async def _remember(self, items: Sequence[MemoryItem | Mapping[str, Any]], *, atomic: bool) -> BatchResult:
        result = await self.send(calls.remember(items, atomic=atomic))
        pauses = self._retries.pauses()
        while again := retryable(result):
            planned = next(pauses, None)
            if planned is None:
                break
            await asyncio.sleep(pause_before(planned, result))
            result = merged(result, again, await self._once([items[index] for index in again]))
        return result

    async def _once(self, items: Sequence[MemoryItem | Mapping[str, Any]]) -> BatchResult:
        call = calls.remember(items)
        try:
            return calls.understand(call, await self._request(call))
        except (Unavailable, BudgetExceeded) as error:
            return refused(len(items), error)

    def _live(self, receipt: Receipt) -> AsyncReceipt:
        return AsyncReceipt(receipt.id, receipt.agent, receipt.state, receipt.first, receipt.error, client=self)
