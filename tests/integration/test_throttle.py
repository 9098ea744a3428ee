"""Drains of a worker that holds much memory: smaller claims, then none, and the work waits for who has room."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from memlane.beat.sweep import Sweep
from memlane.config.settings import Settings
from memlane.storage.cluster import Shard
from memlane.storage.jobs import Claim, Done, Kind
from memlane.tasks.lane import Lane
from memlane.tasks.memory import Use
from memlane.workers import drains
from memlane.workers.drains import Process
from memlane.workers.marks import RedisMarks
from memlane.workers.throttle import FEWER, Throttle
from memlane.workers.wakeups import DRAIN_OF
from tests.support import MakeSettings, Recorder, accepted, count_rows, item, process_of

TASK = DRAIN_OF[Kind.REMEMBER]


@pytest.fixture
def settings(make_settings: MakeSettings) -> Settings:
    """Claims of 40 jobs."""
    return make_settings(claim_size=40)


class Held:
    """What a process holds, as a test says."""

    def __init__(self) -> None:
        self.now = Use(10, 10)

    def __call__(self) -> Use:
        return self.now


@pytest.fixture
def held() -> Held:
    return Held()


@pytest.fixture
def full(lane: Lane, settings: Settings, held: Held, recorder: Recorder) -> Iterator[Process]:
    """A process that holds what the test says."""
    assert settings.marks_url is not None
    throttle = Throttle(settings, lane.drop_caches, held, lambda: None)
    throttle.may_end = True
    lane.wake = recorder
    marks = RedisMarks(settings.marks_url, 30.0)
    yield replace(process_of(lane), throttle=throttle, marks=marks)
    marks._client.close()


@pytest.fixture
def sizes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many jobs each claim had."""
    found: list[int] = []
    real = drains.WORK[Kind.REMEMBER]

    def noting(lane: Lane, shard: Shard, claim: Claim) -> Done:
        found.append(len(claim.jobs))
        return real.work(lane, shard, claim)

    monkeypatch.setattr(drains, "WORK", {**drains.WORK, Kind.REMEMBER: replace(real, work=noting)})
    return found


def test_claims_are_smaller_where_memory_is_short(
    full: Process, lane: Lane, shard: Shard, held: Held, sizes: list[int]
) -> None:
    accepted(lane, *(item(f"tea {n}") for n in range(30)))
    held.now = Use(85, 10)
    drains.drain(full, TASK, shard.number)
    assert sizes == [40 // FEWER] * 3
    held.now = Use(60, 10)
    accepted(lane, *(item(f"more tea {n}") for n in range(30)))
    drains.drain(full, TASK, shard.number)
    assert sizes[3:] == [30]


def test_without_memory_nothing_is_claimed_and_the_work_waits(
    full: Process, lane: Lane, shard: Shard, held: Held, recorder: Recorder, settings: Settings
) -> None:
    """The machine is full of others: nobody is woken for this shard but by the sweep."""
    accepted(lane, *(item(f"tea {n}") for n in range(30)))
    recorder.take()
    held.now = Use(10, 96)
    wakeup = full.marks.renew(TASK, shard.number)
    assert drains.drain(full, TASK, shard.number, wakeup).refused
    assert count_rows(settings, lane.cluster, "jobs", "lease IS NULL AND deaths = 0") == 30
    assert not full.ends
    assert recorder.take() == []
    assert full.marks.set(TASK, shard.number) is None, "whoever accepts something sends no message now"
    woken: list[tuple[Kind, int]] = []

    def send(kind: Kind, number: int) -> bool:
        woken.append((kind, number))
        return True

    Sweep(lane, send)()
    assert woken == [(Kind.REMEMBER, shard.number)]
    held.now = Use(10, 84)
    drains.drain(full, TASK, shard.number, wakeup)
    assert count_rows(settings, lane.cluster, "memories") == 30


def test_a_process_that_ends_leaves_its_wake_up_to_another(
    full: Process, lane: Lane, shard: Shard, held: Held, recorder: Recorder, settings: Settings
) -> None:
    accepted(lane, item("tea"))
    recorder.take()
    held.now = Use(96, 10)
    wakeup = full.marks.renew(TASK, shard.number)
    drains.drain(full, TASK, shard.number, wakeup)
    assert full.ends
    assert recorder.take() == [(Kind.REMEMBER, shard.number)]
    assert full.marks.set(TASK, shard.number) is not None, "which is sent"
    assert count_rows(settings, lane.cluster, "jobs", "lease IS NULL") == 1


def test_a_drain_that_fills_the_memory_stops_between_two_claims(
    full: Process, lane: Lane, shard: Shard, held: Held, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    accepted(lane, *(item(f"tea {n}") for n in range(50)))
    recorder.take()
    real = drains.WORK[Kind.REMEMBER]

    def fill(lane: Lane, shard: Shard, claim: Claim) -> Done:
        held.now = Use(97, 10)
        return real.work(lane, shard, claim)

    monkeypatch.setattr(drains, "WORK", {**drains.WORK, Kind.REMEMBER: replace(real, work=fill)})
    assert drains.drain(full, TASK, shard.number).stored == 40
    woken = [(Kind.REMEMBER, shard.number)]
    assert recorder.take() == 2 * woken, "another helps with the rest, and its successor goes on"


def test_what_is_dropped_is_read_again(lane: Lane, shard: Shard) -> None:
    accepted(lane, item("tea"))
    before = lane.numbers.of(shard, "acme", ["ada"], register=False)
    assert lane.numbers._known
    lane.drop_caches()
    assert not lane.numbers._known
    assert lane.numbers.of(shard, "acme", ["ada"], register=False) == before
    assert lane.numbers._known
