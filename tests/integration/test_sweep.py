"""The sweep finds what nobody does; duties run once per slot."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from threading import Event
from time import monotonic, sleep

import pytest
from celery import Celery
from celery.exceptions import SoftTimeLimitExceeded

from memlane.beat.duties import DUTIES
from memlane.beat.duty import Duty
from memlane.beat.schedule import schedule
from memlane.beat.sweep import Sweep
from memlane.config.celery import WORKER_CLASSES, queue_of
from memlane.config.settings import Settings
from memlane.storage import jobs, leases, strays, ticks
from memlane.storage.cluster import Shard
from memlane.storage.connections import UNHURRIED
from memlane.storage.jobs import Kind, Terms
from memlane.tasks.lane import Lane
from memlane.workers import duties
from memlane.workers.app import make_worker_app
from tests.support import accepted, count_rows, drain_all, eventually, item, sql


class Sender:
    """Takes the wake-ups of a sweep."""

    def __init__(self) -> None:
        self.sent: list[tuple[Kind, int]] = []

    def __call__(self, kind: Kind, shard: int) -> bool:
        self.sent.append((kind, shard))
        return True


def test_work_that_nobody_does_wakes_somebody(lane: Lane, shard: Shard) -> None:
    accepted(lane, item())
    sender = Sender()
    Sweep(lane, sender)()
    assert sender.sent == [(Kind.REMEMBER, shard.number)]


def test_work_that_somebody_does_wakes_nobody(lane: Lane, shard: Shard) -> None:
    accepted(lane, item())
    assert jobs.claim(shard, Kind.REMEMBER, Terms("somebody", 30.0, 10))
    accepted(lane, item("more"))
    sender = Sender()
    Sweep(lane, sender)()
    assert sender.sent == []


def test_only_what_is_due_and_nobody_works_on_waits(lane: Lane, settings: Settings, shard: Shard) -> None:
    def waits(change: str) -> float:
        with sql(settings, shard.node.name) as connection:
            connection.execute(f"UPDATE {shard.schema}.jobs SET {change}".encode())
        (found,) = jobs.backlog(shard)
        return found.oldest_s

    accepted(lane, item())
    assert 299 < waits("created_at = now() - interval '300 s', not_before = now() - interval '400 s'") < 400
    assert waits("not_before = now() - interval '10 s'") < 200  # since it was due again, not since it was made
    assert waits("not_before = now() + interval '1 hour'") == 0
    assert waits("not_before = now() - interval '10 s'") > 9
    assert jobs.claim(shard, Kind.REMEMBER, Terms("somebody", 30.0, 10))
    assert waits("error = NULL") == 0  # its work goes on


def test_what_a_dead_holder_left_is_taken_up_again(lane: Lane, settings: Settings, shard: Shard) -> None:
    accepted(lane, item())
    assert jobs.claim(shard, Kind.REMEMBER, Terms("dead", 0.001, 10))
    sleep(0.02)
    sender = Sender()
    Sweep(lane, sender)()
    assert sender.sent == [(Kind.REMEMBER, shard.number)]
    assert count_rows(settings, lane.cluster, "leases") == 0


def test_a_holder_on_a_node_that_was_restarted_did_not_die(lane: Lane, settings: Settings, shard: Shard) -> None:
    accepted(lane, item())
    assert jobs.claim(shard, Kind.REMEMBER, Terms("dead", 0.001, 10))
    with sql(settings, shard.node.name) as connection:
        connection.execute(f"UPDATE {shard.schema}.leases SET created_at = '2000-01-01'".encode())
    sleep(0.02)
    Sweep(lane, Sender())()
    assert count_rows(settings, lane.cluster, "jobs", "deaths = 0 AND lease IS NULL") == 1


def test_a_holder_on_a_node_that_has_another_primary_did_not_die(lane: Lane, settings: Settings, shard: Shard) -> None:
    accepted(lane, item())
    assert jobs.claim(shard, Kind.REMEMBER, Terms("dead", 0.001, 10))
    with sql(settings, shard.node.name) as connection:
        assert connection.execute(f"SELECT timeline FROM {shard.schema}.leases".encode()).fetchone() == ("00000001",)
        connection.execute(f"UPDATE {shard.schema}.leases SET timeline = '00000000'".encode())
    sleep(0.02)
    Sweep(lane, Sender())()
    assert count_rows(settings, lane.cluster, "jobs", "deaths = 0 AND lease IS NULL") == 1


def test_two_sweeps_at_once(lane: Lane, settings: Settings, shard: Shard) -> None:
    accepted(lane, *(item(f"memory {n}") for n in range(50)))
    assert jobs.claim(shard, Kind.REMEMBER, Terms("dead", 0.001, 50))
    sleep(0.02)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: Sweep(lane, Sender())(), range(4)))
    assert count_rows(settings, lane.cluster, "jobs", "deaths = 1 AND lease IS NULL") == 50


def test_a_session_that_stalls_in_a_transaction_is_ended(lane: Lane, settings: Settings, shard: Shard) -> None:
    accepted(lane, item())
    lane.settings = settings.model_copy(update={"lease_s": 0.1})
    with sql(settings, shard.node.name) as connection:
        connection.execute("SET application_name = 'memlane stalled'")
        with connection.transaction():
            connection.execute(f"SELECT * FROM {shard.schema}.jobs FOR UPDATE".encode())
            sleep(0.2)
            Sweep(lane, Sender())()
            sleep(0.1)
            try:
                connection.execute("SELECT 1")
                ended = False
            except Exception:  # noqa: BLE001  # whatever the driver calls it
                ended = True
    assert ended


def test_a_session_that_may_take_long_is_left_alone(lane: Lane, settings: Settings) -> None:
    lane.settings = settings.model_copy(update={"lease_s": 0.1})
    with sql(settings) as connection:
        connection.execute("SELECT set_config('application_name', %s, false)", (UNHURRIED,))
        with connection.transaction():
            connection.execute("SELECT 1")
            sleep(0.2)
            Sweep(lane, Sender())()
            sleep(0.1)
            assert connection.execute("SELECT 1").fetchone() == (1,)


def test_a_node_that_hangs_does_not_hold_the_others_up(
    lane: Lane, shard: Shard, monkeypatch: pytest.MonkeyPatch
) -> None:
    accepted(lane, *(item(agent=f"agent-{n}") for n in range(20)))
    going_on = Event()
    real = leases.expire

    def expire(on: Shard, *args: int) -> tuple[int, int]:
        if on.node.name == "node-1":
            going_on.wait(30)
        return real(on, *args)

    monkeypatch.setattr("memlane.beat.sweep.leases.expire", expire)
    sender = Sender()
    sweep = Sweep(lane, sender, patience_s=3.0)
    for patience_s in (30, 3):  # the second time nobody waits for what hung the first time
        sender.sent.clear()
        begun = monotonic()
        sweep()
        assert monotonic() - begun < patience_s
        assert {lane.cluster.shard(number).node.name for _, number in sender.sent} == {"node-2"}
    going_on.set()
    eventually(lambda: shard.number in {number for _, number in sender.sent} or shard.node.name == "node-2")


def test_a_shard_that_is_down_does_not_hold_the_others_up(lane: Lane) -> None:
    accepted(lane, *(item(agent=f"agent-{n}") for n in range(20)))
    lane.cluster.nodes["node-2"].close()
    sender = Sender()
    Sweep(lane, sender)()
    assert {lane.cluster.shard(number).node.name for _, number in sender.sent} == {"node-1"}


def test_strays_are_sent_on_when_their_shard_is_back(lane: Lane, settings: Settings, shard: Shard) -> None:
    message = {"tenant": "acme", "agent": "ada", "content": "tea", "key": "k"}
    strays.keep(lane.cluster, "memory.remember", "acme", "node down", message, target=shard.number)
    Sweep(lane, Sender())()
    drain_all(lane)
    assert count_rows(settings, lane.cluster, "memories", "content = 'tea'") == 1
    assert count_rows(settings, lane.cluster, "strays") == 0


def test_strays_wait_while_their_shard_is_down(lane: Lane, settings: Settings) -> None:
    down = next(s for s in lane.cluster.shards() if s.node.name == "node-2")
    message = {"tenant": "acme", "agent": "ada", "content": "tea"}
    strays.keep(lane.cluster, "memory.remember", "acme", "node down", message, target=down.number)
    lane.cluster.nodes["node-2"].close()
    Sweep(lane, Sender())()
    assert count_rows(settings, lane.cluster, "strays") == 1


def test_a_duty_runs_once_per_slot(lane: Lane, settings: Settings) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: duties.run_once(lane, f"holder-{n}", "moments"), range(4)))
    with sql(settings) as connection:
        rows = connection.execute("SELECT count(*), count(done_at) FROM control.ticks").fetchall()
    assert rows in ([(1, 1)], [(2, 2)])  # two when a slot ended just then
    (tick,) = ticks.last(lane.cluster.control)
    assert (tick.name, tick.outcome, tick.detail) == ("moments", "done", "4 shards")


Made = Callable[..., Callable[[], None]]
"""Takes a duty's work and slice, and gives what runs it."""


@pytest.fixture
def duty(lane: Lane, monkeypatch: pytest.MonkeyPatch) -> Made:
    """Makes a duty of ten minutes with a slice; what it gives runs it once."""

    def make(work: Callable[[], str], slice_s: float = 50.0) -> Callable[[], None]:
        monkeypatch.setattr(duties, "DUTIES", {"made": Duty(lambda _lane, _slice: work(), lambda _: 600, slice_s)})
        monkeypatch.setattr(duties, "periods", lambda _settings: {"made": 600.0})
        return lambda: duties.run_once(lane, "holder", "made")

    return make


def test_a_duty_that_raises_is_noted_without_its_words(lane: Lane, duty: Made) -> None:
    def raises() -> str:
        raise RuntimeError("tea")

    with pytest.raises(RuntimeError):
        duty(raises)()
    (tick,) = ticks.last(lane.cluster.control)
    assert (tick.outcome, tick.detail, tick.broken_off) == ("failed", "RuntimeError", False)


def test_a_duty_that_hangs_is_stopped_and_noted(lane: Lane, duty: Made) -> None:
    def hangs() -> str:
        raise SoftTimeLimitExceeded  # what Celery raises in it

    duty(hangs, 7.0)()
    (tick,) = ticks.last(lane.cluster.control)
    assert (tick.outcome, tick.detail) == ("stopped", "did not end within 7 s")


def test_a_duty_whose_process_was_killed_is_seen(lane: Lane, settings: Settings, duty: Made) -> None:
    def killed() -> str:
        raise SystemExit(9)

    with pytest.raises(SystemExit):
        duty(killed)()
    (tick,) = ticks.last(lane.cluster.control)
    assert (tick.done_at, tick.outcome, tick.broken_off) == (None, None, False)
    with sql(settings) as connection:
        connection.execute("UPDATE control.ticks SET stop_at = now() - interval '2 minutes'")
    assert ticks.last(lane.cluster.control)[0].broken_off


def test_what_waited_for_an_hour_is_done_once(duty: Made) -> None:
    """Beat has gone on sending while nobody took its messages, or sends late what it missed."""
    runs: list[None] = []

    def runs_again() -> str:
        runs.append(None)
        return "once more"

    once = duty(runs_again)
    for _ in range(120):
        once()
    assert len(runs) in (1, 2)  # two when a slot ended just then


def test_a_clock_that_was_ahead_holds_no_duty_up(lane: Lane, settings: Settings, duty: Made) -> None:
    once = duty(lambda: "done")
    once()
    with sql(settings) as connection:
        connection.execute("UPDATE control.ticks SET slot = slot + interval '1 hour'")
    once()
    (tick,) = ticks.last(lane.cluster.control)
    assert tick.slot <= datetime.now(UTC)


def test_beat_goes_on_whatever_the_clock_says(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = make_worker_app(settings).conf.beat_schedule["sweep"]["schedule"]
    begun = entry.now()
    monkeypatch.setattr(Celery, "now", lambda _app: datetime.now(UTC) - timedelta(hours=1))  # it was set back
    assert entry.is_due(begun - timedelta(seconds=settings.sweep_every_s)).is_due
    assert not entry.is_due(entry.now()).is_due


def test_a_slice_is_shorter_than_the_time_between_two(settings: Settings) -> None:
    for name, one in DUTIES.items():
        every_s = one.every(settings)
        assert every_s is None or one.slice_s < every_s, name


def test_what_an_older_beat_sends_for_is_nothing_new(settings: Settings) -> None:
    """Else the message would go back to its queue again and again, for workers of a newer version."""
    app = make_worker_app(settings)
    assert app.tasks["beat.analyze"](hurry=True) is None


def test_every_duty_of_the_schedule_has_a_route(settings: Settings) -> None:
    for entry in schedule(settings).values():
        queue = queue_of(entry["task"])
        assert any(queue in worker_class.queues for worker_class in WORKER_CLASSES.values())
        assert entry["options"]["expires"] > entry["schedule"]
