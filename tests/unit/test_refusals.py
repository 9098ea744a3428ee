"""Who is refused after a node failed, and who tries first."""

import pytest

from memlane.storage.refusals import Call, Refusals

READ, WRITE, HURRY = Call(), Call(writes=True), Call(patience_s=0.1)


def test_who_writes_is_refused_apart_from_who_reads() -> None:
    refusals = Refusals(60)
    refusals.failed(WRITE, 0.01)
    assert refusals.suspect
    assert refusals.refuses(WRITE)
    assert not refusals.refuses(READ)


def test_one_tries_alone_until_it_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("memlane.storage.refusals.monotonic", lambda: now)
    refusals = Refusals(10)
    refusals.failed(WRITE, 12.0)
    now += 2.9
    assert refusals.refuses(WRITE)
    now += 0.2
    assert not refusals.refuses(WRITE)  # it tries
    assert refusals.refuses(WRITE)
    refusals.undecided(WRITE)
    assert not refusals.refuses(WRITE)
    assert refusals.refuses(WRITE)
    refusals.succeeded(WRITE)
    assert not refusals.refuses(WRITE)
    assert not refusals.refuses(WRITE)


def test_a_trial_that_is_never_heard_of_again_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("memlane.storage.refusals.monotonic", lambda: now)
    refusals = Refusals(10)
    refusals.failed(WRITE, 0.1)
    now += 1
    assert not refusals.refuses(WRITE)
    now += 10.1
    assert not refusals.refuses(WRITE)


def test_a_node_that_is_too_slow_for_a_hurry_is_not_down() -> None:
    refusals = Refusals(60)
    refusals.failed(HURRY, 0.2)
    assert refusals.refuses(HURRY)
    assert not refusals.refuses(READ)
    assert not refusals.refuses(WRITE)
    refusals.failed(READ, 0.2)
    assert refusals.refuses(READ)
    assert refusals.refuses(WRITE)
