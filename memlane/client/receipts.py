"""Receipts that know their client: what `remember` returns, so that one can wait on it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeAlias

from memlane.contract import Receipt, Rejection, State, limits
from memlane.contract.requests import MemoryName, ReceiptsRequest
from memlane.errors import NeverReached, NotFound, WaitTimeout

Goal: TypeAlias = Literal["stored", "searchable"]
"""What can be waited for."""


class Waiting(Protocol):
    """What a receipt has to know of its client."""

    def wait(self, receipts: Sequence[Receipt], state: Goal, timeout: float) -> "list[LiveReceipt]":
        """Wait until all are there."""


class AsyncWaiting(Protocol):
    """What a receipt has to know of its client, in asyncio."""

    async def wait(self, receipts: Sequence[Receipt], state: Goal, timeout: float) -> "list[AsyncReceipt]":
        """Wait until all are there."""


@dataclass(frozen=True, slots=True)
class LiveReceipt(Receipt):
    """A receipt on which one can wait."""

    client: Waiting = field(kw_only=True, repr=False, compare=False)

    def wait(self, state: Goal = "searchable", timeout: float = 10.0) -> "LiveReceipt":
        """Wait until the memory is stored or searchable.

        Raises:
            WaitTimeout: it was not in time; it is as durable as before.
            NeverReached: it was parked or forgotten.
        """
        return self.client.wait([self], state, timeout)[0]


@dataclass(frozen=True, slots=True)
class AsyncReceipt(Receipt):
    """A receipt on which one can wait, in asyncio."""

    client: AsyncWaiting = field(kw_only=True, repr=False, compare=False)

    async def wait(self, state: Goal = "searchable", timeout: float = 10.0) -> "AsyncReceipt":
        """As `LiveReceipt.wait`."""
        return (await self.client.wait([self], state, timeout))[0]


@dataclass(frozen=True, slots=True)
class Batch:
    """What became of a batch: receipts of what was taken in, and rejections by index."""

    receipts: Sequence[LiveReceipt | None]
    rejections: Sequence[Rejection]

    def wait(self, state: Goal = "searchable", timeout: float = 60.0) -> "Batch":
        """Wait until all that was taken in is stored or searchable; raises as `LiveReceipt.wait`."""
        live = [receipt for receipt in self.receipts if receipt is not None]
        if not live:
            return self
        there = iter(live[0].client.wait(live, state, timeout))
        return Batch([None if receipt is None else next(there) for receipt in self.receipts], self.rejections)


@dataclass(frozen=True, slots=True)
class AsyncBatch:
    """As `Batch`, in asyncio."""

    receipts: Sequence[AsyncReceipt | None]
    rejections: Sequence[Rejection]

    async def wait(self, state: Goal = "searchable", timeout: float = 60.0) -> "AsyncBatch":
        """As `Batch.wait`."""
        live = [receipt for receipt in self.receipts if receipt is not None]
        if not live:
            return self
        there = iter(await live[0].client.wait(live, state, timeout))
        return AsyncBatch([None if receipt is None else next(there) for receipt in self.receipts], self.rejections)


def asked(receipts: Sequence[Receipt], state: Goal, timeout_s: float) -> ReceiptsRequest:
    """The request that waits for receipts, for at most as long as the server allows at once."""
    names = tuple(MemoryName(agent=receipt.agent, id=receipt.id) for receipt in receipts)
    return ReceiptsRequest(receipts=names, wait=state, timeout=min(timeout_s, limits.WAIT_S))


def not_there(receipts: Iterable[Receipt], goal: State) -> list[Receipt]:
    """Those that have not reached the goal yet.

    Raises:
        NeverReached: one of them will not.
    """
    missing = [receipt for receipt in receipts if not receipt.reached.reached(goal)]
    for receipt in missing:
        if receipt.reached.final:
            why = f": {receipt.error}" if receipt.error else ""
            raise NeverReached(f"memory {receipt.id} of agent {receipt.agent!r} is {receipt.reached}{why}")
    return missing


def all_of(wanted: Sequence[Receipt], found: Sequence[Receipt]) -> Sequence[Receipt]:
    """What was found, if that is all that was asked for.

    Raises:
        NotFound: the server knows nothing of some.
    """
    if unknown := {(r.agent, r.id) for r in wanted} - {(r.agent, r.id) for r in found}:
        agent, id_ = min(unknown)
        raise NotFound(f"nothing was accepted under id {id_} of agent {agent!r}")
    return found


def late(missing: Sequence[Receipt], goal: State, timeout_s: float) -> WaitTimeout:
    """The error for receipts that are not there when the time is up."""
    why = next((f" ({receipt.error})" for receipt in missing if receipt.error), "")
    return WaitTimeout(
        f"{len(missing)} of the memories are not {goal} after {timeout_s:g} s{why}; they are safe all the same"
    )
