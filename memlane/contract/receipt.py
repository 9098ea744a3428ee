"""What a caller holds after handing something over."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Self
from uuid import UUID

from memlane.contract.states import State


@dataclass(frozen=True, slots=True)
class Receipt:
    """The proof that a memory was taken in.

    Attributes:
        id: the memory's id.
        agent: whose memory it is.
        state: how far it has come.
        first: for a duplicate, how far the first one has come.
        error: for a parked one, why; for one that is stored, why its vector waits, if there is a reason.
    """

    id: UUID
    agent: str
    state: State
    first: State | None = None
    error: str | None = None

    @property
    def reached(self) -> State:
        """How far the memory behind this receipt has come, be it this one or the first."""
        return self.first if self.state is State.DUPLICATE and self.first else self.state


@dataclass(frozen=True, slots=True)
class Rejection:
    """One item of a batch that was not taken in.

    Attributes:
        index: its place in the batch, from 0.
        status: the HTTP status that it would have got alone: 402, 409, 422, 429 or 503.
        field: the field at fault, where there is one.
        detail: what is wrong.
        first: for a conflict, the id of the memory that holds the key.
        retryable: whether the same item may be sent again.
        retry_after_s: when it may be, in seconds; only with 429.
        limit: for 429, what it is over: `tenant`, `agent` (their rates) or `open_jobs`.
        spent_micro: for 402, what is spent of the budget, in micro-dollars.
        limit_micro: for 402, the budget, in micro-dollars.
        resets_at: for 402, when the budget begins anew.
    """

    index: int
    status: int
    detail: str
    field: str | None = None
    first: UUID | None = None
    retryable: bool = False
    retry_after_s: float | None = None
    spent_micro: int | None = None
    limit_micro: int | None = None
    resets_at: datetime | None = None
    limit: str | None = None


@dataclass(frozen=True, slots=True)
class BatchResult:
    """What became of a batch: a receipt for each item in its place, or None there and a rejection."""

    receipts: tuple[Receipt | None, ...]
    rejections: tuple[Rejection, ...] = ()

    @classmethod
    def of(cls, receipts: Iterable[Receipt | None], rejections: Iterable[Rejection]) -> Self:
        """A result with its rejections in the order of the items."""
        return cls(tuple(receipts), tuple(sorted(rejections, key=lambda rejection: rejection.index)))
