"""The client over HTTP."""

from collections.abc import Mapping, Sequence
from time import sleep
from types import TracebackType
from typing import Any, Self, TypeVar

from memlane.client import calls, costs
from memlane.client.address import resolve
from memlane.client.calls import Call
from memlane.client.front import Front
from memlane.client.http import Answer, Connections
from memlane.client.rest import merged, pause_before, refused, retryable
from memlane.client.retrying import Retries, pause_s
from memlane.contract import (
    BatchResult,
    Ledger,
    Memory,
    MemoryItem,
    MemoryUpdate,
    Page,
    PageRequest,
    ParkedPage,
    Recalled,
    RecallRequest,
    Receipt,
    Use,
    Version,
)
from memlane.contract.cost import Budgets, BudgetsRequest, History, HistoryRequest, UsagePage, UsageRequest
from memlane.contract.parked import MemoryNames, ParkedRequest
from memlane.contract.patterns import Pattern
from memlane.contract.requests import EmbeddingsRequest, ForgetMatching, Forgetting, MemoryName, ReceiptsRequest
from memlane.errors import BudgetExceeded, Unavailable

T = TypeVar("T")


class Client(Front):
    """memlane over HTTP; safe to share between threads.

    Args:
        url: of the gateway; MEMLANE_URL unless given.
        api_key: of the tenant; MEMLANE_API_KEY unless given.
        timeout: seconds for one request.
        retries: how often a request is repeated after a 503, a 429 or a broken connection, with the same ids; it
            waits before, after a 429 as long as the server says, up to a minute.
    """

    def __init__(
        self, url: str | None = None, api_key: str | None = None, *, timeout: float = 30.0, retries: int = 5
    ) -> None:
        url, api_key = resolve(url, api_key)
        self._timeout = timeout
        self._retries = Retries(retries)
        self._headers = headers(api_key)
        self._connections = Connections(url)

    def close(self) -> None:
        """Close the connections."""
        self._connections.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, stack: TracebackType | None
    ) -> None:
        self.close()

    def send(self, call: Call[T]) -> T:
        """Send a call, again if need be, and understand its answer.

        Raises:
            Unavailable: it met a 503, a 429 or a broken connection each time.
            MemlaneError: the one that the server raised.
        """
        pauses = self._retries.pauses()
        while True:
            try:
                return calls.understand(call, self._request(call))
            except Unavailable as error:
                planned = next(pauses, None)
                if planned is None:
                    raise
                sleep(pause_s(planned, error))

    def _request(self, call: Call[Any]) -> Answer:
        return self._connections.send(calls.request_of(call, self._headers, self._timeout))

    def forget_agent(self, agent: str) -> None:  # noqa: D102  # as in Front
        self.send(calls.forget_agent(agent))

    def optimize(self, agent: str) -> None:  # noqa: D102  # as in Front
        self.send(calls.optimize(agent))

    def patterns(self, agent: str) -> Sequence[Pattern]:  # noqa: D102  # as in Front
        return self.send(calls.patterns(agent))

    def ledger(self) -> Ledger:  # noqa: D102  # as in Front
        return self.send(calls.ledger())

    def _remember(self, items: Sequence[MemoryItem | Mapping[str, Any]], *, atomic: bool) -> BatchResult:
        result = self.send(calls.remember(items, atomic=atomic))
        pauses = self._retries.pauses()
        while again := retryable(result):
            planned = next(pauses, None)
            if planned is None:
                break
            sleep(pause_before(planned, result))
            result = merged(result, again, self._once([items[index] for index in again]))
        return result

    def _once(self, items: Sequence[MemoryItem | Mapping[str, Any]]) -> BatchResult:
        call = calls.remember(items)
        try:
            return calls.understand(call, self._request(call))
        except (Unavailable, BudgetExceeded) as error:
            return refused(len(items), error)

    def _recall(self, request: RecallRequest) -> Recalled:
        return self.send(calls.recall(request))

    def _get(self, name: MemoryName) -> Memory:
        return self.send(calls.get(name.agent, name.id))

    def _page(self, request: PageRequest) -> Page:
        return self.send(calls.page(request))

    def _forget(self, name: MemoryName) -> Receipt:
        return self.send(calls.forget(name.agent, name.id))

    def _update(self, name: MemoryName, wanted: MemoryUpdate) -> Memory:
        return self.send(calls.update(name.agent, name.id, wanted))

    def _history(self, name: MemoryName) -> Sequence[Version]:
        return self.send(calls.history(name.agent, name.id))

    def _use(self, name: MemoryName) -> Use:
        return self.send(calls.use(name.agent, name.id))

    def _forget_matching(self, agent: str, wanted: ForgetMatching) -> Forgetting:
        return self.send(calls.forget_matching(agent, wanted))

    def _receipts(self, request: ReceiptsRequest) -> Sequence[Receipt]:
        return self.send(calls.receipts(request))

    def _embed(self, request: EmbeddingsRequest) -> int:
        return self.send(calls.embed(request))

    def _parked(self, request: ParkedRequest) -> ParkedPage:
        return self.send(calls.parked(request))

    def _retry_parked(self, named: MemoryNames) -> int:
        return self.send(calls.retry_parked(named)).changed

    def _drop_parked(self, named: MemoryNames) -> int:
        return self.send(calls.drop_parked(named)).changed

    def _budgets(self, wanted: BudgetsRequest) -> Budgets:
        return self.send(costs.budgets(costs.OWN, wanted))

    def _budget_history(self, wanted: HistoryRequest) -> History:
        return self.send(costs.history(costs.OWN, wanted))

    def _usage(self, wanted: UsageRequest) -> UsagePage:
        return self.send(costs.usage(costs.OWN, wanted))


def headers(api_key: str) -> dict[str, str]:
    """What each request carries."""
    return {"Authorization": f"Bearer {api_key}", "Content-Type": "application/json"}
