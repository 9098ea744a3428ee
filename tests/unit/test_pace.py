"""The pace of a process alone, and what it is made of."""

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from time import monotonic

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memlane.errors import RateRefused
from memlane.tasks.pace.alone import AlonePace
from memlane.tasks.pace.contract import Limits, Rules
from memlane.tasks.pace.tally import Tally
from tests.support import eventually

FOREVER = 1e12


def test_limits_are_divided() -> None:
    assert Limits(60, 1000, 4).divided(8) == Limits(7.5, 125, 1)
    assert Limits(60, 1000, 16).divided(8).places == 2
    assert Limits().divided(8) == Limits()


@given(st.lists(st.integers(1, 400), min_size=2, max_size=40))
def test_requests_and_tokens_are_spaced(bounds: list[int]) -> None:
    pace = AlonePace(Limits(requests=60, tokens=600))
    moments = [pace._reserve(tokens, FOREVER) for tokens in bounds]
    for (earlier, later), tokens in zip(pairwise(moments), bounds, strict=False):
        assert later - earlier >= max(1, tokens * 60 / 600)
        assert later - earlier == pytest.approx(max(1, tokens * 60 / 600) / 0.98)


def test_a_pause_moves_all_who_wait() -> None:
    pace = AlonePace(Limits(requests=20), Rules(window_s=1.0, used=1.0))
    first = pace.turn(1, 0)
    with ThreadPoolExecutor(3) as pool:
        waiting = [pool.submit(lambda: (pace.turn(1, 30), monotonic())[1]) for _ in range(3)]
        eventually(lambda: pace._free - monotonic() > 0.1 or any(one.done() for one in waiting))
        said = monotonic()
        first.refused(1.0)
        moments = sorted(one.result(30) for one in waiting)
    late = [moment for moment in moments if moment > said + 0.01]
    assert all(moment >= said + 1.0 for moment in late)
    assert late, "somebody waited"
    pace.turn(1, 10).refused(50)
    with pytest.raises(RateRefused):
        pace.turn(1, 10)


def test_a_pause_that_is_known_does_not_grow() -> None:
    pace = AlonePace(Limits())
    pace.pause(5)
    pace.pause(2)
    assert 4 < pace.paused_s() <= 5
    with pytest.raises(RateRefused) as caught:
        pace.turn(1, 1)
    assert 4 < caught.value.retry_after_s <= 5


def test_what_was_not_used_comes_back() -> None:
    pace = AlonePace(Limits(requests=1, tokens=1000, places=1))
    turn = pace.turn(1000, 0)
    with pytest.raises(RateRefused, match="at once"):
        pace.turn(1, 0)
    turn.unused()
    turn.used(3)  # it has ended before
    pace.turn(1000, 0).used(10)
    with pytest.raises(RateRefused, match="limits") as caught:
        pace.turn(1, 0)
    assert caught.value.retry_after_s > 50


def test_what_was_sent_with_others_counts() -> None:
    pace = AlonePace(Limits(requests=1))
    pace.note(1)
    with pytest.raises(RateRefused):
        pace.turn(1, 1)


def test_requests_are_told_of_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("memlane.tasks.pace.tally.monotonic", lambda: now)
    tally = Tally()
    tally.add()
    assert tally.due() == 1
    tally.add()
    tally.add()
    assert tally.due() == 0
    now += 1
    assert tally.due() == 2
    tally.add()
    assert tally.take() == 1
    assert tally.take() == 0
