"""When the SDK sends again, and what it makes of a batch of which a part has to be sent again."""

from datetime import UTC, datetime
from uuid import UUID

import pytest

from memlane.client.calls import error_of as error_of_answer
from memlane.client.http import Answer
from memlane.client.rest import merged, pause_before, refused, retryable
from memlane.client.retrying import Retries, pause_s
from memlane.contract import BatchResult, Receipt, Rejection, State, wire
from memlane.contract.rejecting import error_of, rejection_of
from memlane.errors import BudgetExceeded, Conflict, InvalidInput, MemlaneError, RateLimited, Unavailable
from memlane.gateway.problems import problem, status_of

BUDGET = BudgetExceeded("over", spent_micro=3, limit_micro=4, resets_at=datetime(2026, 12, 1, tzinfo=UTC))


def receipt(number: int) -> Receipt:
    return Receipt(UUID(int=number), "ada", State.ACCEPTED)


def test_pauses_grow_up_to_five_seconds() -> None:
    pauses = list(Retries(10).pauses())
    assert len(pauses) == 10
    assert all(0.05 <= pause <= 5 for pause in pauses)
    assert pauses[-1] > pauses[0]


def test_the_server_may_ask_for_longer() -> None:
    assert pause_s(0.1, Unavailable("busy", 3.0)) == 3.0
    assert pause_s(0.1, Unavailable("busy", 600.0)) == 5.0
    assert pause_s(0.1, Unavailable("busy", 1.0)) == 0.1


def test_what_was_down_is_merged_into_its_place() -> None:
    down = Rejection(1, 503, "node down", retryable=True)
    bad = Rejection(2, 422, "empty", "content")
    worse = Rejection(3, 503, "node down", retryable=True)
    first = BatchResult.of([receipt(0), None, None, None], [down, bad, worse])
    again = retryable(first)
    assert again == [1, 3]
    later = BatchResult.of([receipt(1), None], [Rejection(1, 503, "still down", retryable=True)])
    result = merged(first, again, later)
    assert [r and r.id.int for r in result.receipts] == [0, 1, None, None]
    assert [(r.index, r.status) for r in result.rejections] == [(2, 422), (3, 503)]
    assert retryable(result) == [3]


def test_over_a_rate_it_waits_as_long_as_it_is_told() -> None:
    assert pause_s(0.1, RateLimited("over", 12.0)) == 12.1
    assert pause_s(0.1, RateLimited("over", 600.0)) == 60.1
    down = Rejection(0, 503, "node down", retryable=True)
    over = rejection_of(1, 429, RateLimited("over", 7.0))
    hopeless = rejection_of(2, 402, BUDGET)
    assert pause_before(0.1, BatchResult.of([None] * 3, [down, over, hopeless])) == 7.1
    assert pause_before(0.1, BatchResult.of([None], [down])) == 0.1


def told(error: MemlaneError) -> dict[str, object]:
    return {"kind": type(error), "detail": str(error), **{k: v for k, v in vars(error).items() if k != "limit"}}


@pytest.mark.parametrize(
    "error", [BUDGET, BudgetExceeded("unknown"), RateLimited("over", 7.0), Conflict("held", UUID(int=1))]
)
def test_an_error_comes_back_as_it_was(error: MemlaneError) -> None:
    """As an answer of its own, and as a rejection in a batch."""
    answer = problem(error)
    came = Answer(answer.status_code, dict(answer.headers), bytes(answer.body))
    assert told(error_of_answer(came)) == told(error)
    rejection = wire.load(Rejection, wire.dump(rejection_of(3, status_of(error)[0], error)))
    assert (rejection.index, rejection.status, rejection.retryable) == (3, answer.status_code, error.retryable)
    assert told(error_of(rejection)) == told(error)


def test_whole_seconds_are_never_too_few() -> None:
    assert problem(RateLimited("over", 1.2)).headers["retry-after"] == "2"
    assert problem(Unavailable("down", 1.2)).headers["retry-after"] == "1"


def test_a_limit_that_another_server_answers_with() -> None:
    found = error_of_answer(Answer(429, {"retry-after": "3"}, b"slow down"))
    assert isinstance(found, RateLimited)
    assert found.retry_after_s == 3.0


def test_what_a_batch_is_told_when_its_rest_is_refused() -> None:
    first = BatchResult.of([receipt(0), None], [Rejection(1, 429, "over", retryable=True)])
    result = merged(first, [1], refused(1, BUDGET))
    assert result.receipts == (receipt(0), None)
    assert [(r.index, r.status, r.retryable) for r in result.rejections] == [(1, 402, False)]
    assert told(error_of(result.rejections[0])) == told(BUDGET)
    assert isinstance(error_of(Rejection(0, 422, "empty", "content")), InvalidInput)
