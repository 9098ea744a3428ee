"""When the SDK sends again, and what it makes of a batch of which a part has to be sent again."""

from uuid import UUID

from memlane.client.retrying import Retries, pause_s
from memlane.client.synchronous import merged, retryable
from memlane.contract import BatchResult, Receipt, Rejection, State
from memlane.errors import Unavailable


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
