"""The rest of a batch: what was rejected only for now, which is sent again, and what came of that."""

from collections.abc import Sequence
from dataclasses import replace

from memlane.client.retrying import pause_s
from memlane.contract import BatchResult
from memlane.contract.rejecting import error_of, rejection_of
from memlane.errors import BudgetExceeded, RateLimited, Unavailable


def retryable(result: BatchResult) -> list[int]:
    """The places of items that were rejected only because something is down, or over a rate or a cap."""
    return [rejection.index for rejection in result.rejections if rejection.retryable]


def pause_before(planned: float, result: BatchResult) -> float:
    """Seconds to wait before the rest is sent again: as long as the server asks for any of it."""
    errors = [error_of(rejection) for rejection in result.rejections if rejection.retryable]
    return max((pause_s(planned, error) for error in errors if isinstance(error, Unavailable)), default=planned)


def merged(before: BatchResult, again: Sequence[int], later: BatchResult) -> BatchResult:
    """The result of a batch after some of its items were sent again."""
    receipts = list(before.receipts)
    for place, receipt in zip(again, later.receipts, strict=True):
        receipts[place] = receipt
    kept = [rejection for rejection in before.rejections if rejection.index not in again]
    moved = [replace(rejection, index=again[rejection.index]) for rejection in later.rejections]
    return BatchResult.of(receipts, [*kept, *moved])


def refused(count: int, error: Unavailable | BudgetExceeded) -> BatchResult:
    """The result of a batch of which nothing was taken in; what was taken in before is reported all the same."""
    status = 402 if isinstance(error, BudgetExceeded) else 429 if isinstance(error, RateLimited) else 503
    return BatchResult.of([None] * count, [rejection_of(index, status, error) for index in range(count)])
