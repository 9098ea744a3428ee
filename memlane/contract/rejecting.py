"""Errors of single items as rejections, and back: both sides of the wire agree on them here."""

from memlane.contract.receipt import Rejection
from memlane.errors import BudgetExceeded, Conflict, FieldError, InvalidInput, MemlaneError, RateLimited, Unavailable


def rejection_of(index: int, status: int, error: MemlaneError) -> Rejection:
    """An item's rejection for an error of its own.

    Args:
        index: its place in the batch, from 0.
        status: the HTTP status that the error has alone.
        error: why it was not taken in.
    """
    known = error if isinstance(error, BudgetExceeded) else None
    return Rejection(
        index,
        status,
        str(error),
        field=error.fields[0].field if isinstance(error, InvalidInput) and error.fields else None,
        first=error.first if isinstance(error, Conflict) else None,
        retryable=error.retryable,
        retry_after_s=error.retry_after_s if isinstance(error, RateLimited) else None,
        spent_micro=known.spent_micro if known else None,
        limit_micro=known.limit_micro if known else None,
        resets_at=known.resets_at if known else None,
        limit=error.limit if isinstance(error, RateLimited) else None,
    )


def error_of(rejection: Rejection) -> MemlaneError:
    """The error that a rejection stands for."""
    match rejection.status:
        case 402:
            return BudgetExceeded(
                rejection.detail,
                spent_micro=rejection.spent_micro,
                limit_micro=rejection.limit_micro,
                resets_at=rejection.resets_at,
            )
        case 409:
            return Conflict(rejection.detail, rejection.first)
        case 422:
            return InvalidInput([FieldError(rejection.field or "body", rejection.detail)])
        case 429:
            return RateLimited(rejection.detail, rejection.retry_after_s or 1.0, limit=rejection.limit or "tenant")
    return Unavailable(rejection.detail)
