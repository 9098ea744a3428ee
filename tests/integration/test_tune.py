"""Auto-tune: knobs are turned on trial, decided by what workers did, and hold everywhere within seconds."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Any

import pytest

from memlane.beat.duty import Slice
from memlane.beat.tune import tune
from memlane.config.settings import Settings, load_settings
from memlane.contract.upkeep import Knob, Tuning, Verdict
from memlane.errors import InvalidInput, Misconfigured
from memlane.storage import jobs, knobs, leases, processes, progress, upkeep
from memlane.storage.cluster import Shard
from memlane.storage.jobs import Kind, Terms
from memlane.tasks import canary, optimize, tuning
from memlane.tasks.lane import Lane
from memlane.workers import drains
from memlane.workers.duties import run_once
from tests.support import (
    MakeSettings,
    Recorder,
    accepted,
    as_role,
    count_rows,
    eventually,
    item,
    process_of,
    remembered,
    sql,
)

STORED = 'memlane_jobs_finished_total{kind="remember",outcome="stored"}'
BUSY = 'memlane_busy_seconds_total{class="ingest"}'


class Workers:
    """What workers do between two runs, as the processes' counts tell it, while much waits."""

    def __init__(self, lane: Lane, settings: Settings) -> None:
        self._lane = lane
        self._settings = settings
        self._counts = {STORED: 0.0, BUSY: 0.0}
        shard = lane.cluster.shard(0)
        with sql(settings, shard.node.name) as connection:
            connection.execute(
                f"INSERT INTO {shard.schema}.jobs (number, kind, tenant, agent, id, payload)"
                " SELECT n, 'remember', 'acme', 1, gen_random_uuid(), '{}' FROM generate_series(1, 1000) n".encode()
            )

    def work(self, rate: float, seconds: float = 300.0) -> str:
        """Work for so long, and run auto-tune then."""
        self._counts[STORED] += rate * seconds
        self._counts[BUSY] += seconds
        processes.begin(self._lane.cluster.control, "worker", "ingest", processes.Report({}, self._counts))
        with sql(self._settings) as connection:
            ago = f"- interval '{seconds} seconds'"
            connection.execute(f"UPDATE control.places SET at = at {ago} WHERE duty = 'tune'".encode())
            connection.execute(f"UPDATE control.tunings SET began_at = began_at {ago} WHERE state = 'trial'".encode())
        return tune(self._lane, Slice(50.0))


def last(lane: Lane) -> Tuning:
    return knobs.history(lane.cluster.control, 1)[0]


def test_what_is_better_is_kept_and_what_is_not_is_taken_back(lane: Lane, settings: Settings) -> None:
    workers = Workers(lane, settings)
    workers.work(100)
    assert "claim_size 256 -> 512 is on trial" in workers.work(100)
    eventually(lambda: lane.cluster.knobs.of(lane.settings, Knob.CLAIM_SIZE) == 512)
    assert "claim_size 256 -> 512 is kept: jobs a second " in workers.work(120)
    assert "drains_per_shard 2 -> 3 is on trial" in workers.work(120)
    assert "drains_per_shard 2 -> 3 is taken back: jobs a second 1" in workers.work(90)
    eventually(lambda: lane.cluster.knobs.of(lane.settings, Knob.DRAINS_PER_SHARD) == 2)
    assert (last(lane).metric_before, last(lane).metric_after) == pytest.approx((120, 90), rel=0.02)
    assert last(lane).state is Verdict.TAKEN_BACK
    assert "claim_size 512 -> 1024" in workers.work(120)


def test_without_a_backlog_nothing_is_tried_and_nothing_decided(lane: Lane, settings: Settings) -> None:
    workers = Workers(lane, settings)
    with sql(settings, lane.cluster.shard(0).node.name) as connection:
        connection.execute(f"DELETE FROM {lane.cluster.shard(0).schema}.jobs".encode())
    workers.work(100)
    assert workers.work(100) == "nothing is known"
    again = Workers(lane, settings)
    again.work(100)
    again.work(100)
    with sql(settings, lane.cluster.shard(0).node.name) as connection:
        connection.execute(f"DELETE FROM {lane.cluster.shard(0).schema}.jobs".encode())
    assert again.work(100) == "claim_size 256 -> 512 is on trial, and could not be measured"
    assert "taken back" in again.work(100, 3700.0)


def test_a_run_that_was_killed_leaves_the_trial_to_the_next(
    lane: Lane, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    workers = Workers(lane, settings)
    workers.work(100)

    begin = knobs.begin_trial

    def turned_and_killed(*args: Any) -> bool:
        begin(*args)
        raise SystemExit(9)

    with monkeypatch.context() as patched:
        patched.setattr("memlane.beat.tune.knobs.begin_trial", turned_and_killed)
        with pytest.raises(SystemExit):
            workers.work(100)
    trial = knobs.trial(lane.cluster.control)
    assert trial is not None
    assert trial.after == 512
    assert "could not be measured" in workers.work(50)  # since its window began before the knob was turned
    assert "is taken back" in workers.work(50)
    assert knobs.trial(lane.cluster.control) is None


def test_a_window_that_began_before_the_trial_decides_nothing(lane: Lane, settings: Settings) -> None:
    workers = Workers(lane, settings)
    workers.work(100)
    workers.work(100)
    with sql(settings) as connection:  # the run was killed before it noted where it stood
        connection.execute("UPDATE control.places SET at = at - interval '1 hour' WHERE duty = 'tune'")
    assert "could not be measured" in workers.work(100)
    assert "is kept" in workers.work(150)


def test_two_at_once_put_one_knob_on_trial(lane: Lane, settings: Settings) -> None:
    workers = Workers(lane, settings)
    workers.work(100)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: workers.work(100), range(2)))
    assert len([one for one in knobs.history(lane.cluster.control, 9) if one.state is Verdict.TRIAL]) <= 1
    assert knobs.turned(lane.cluster.control).keys() <= {Knob.CLAIM_SIZE}


def test_what_is_set_by_hand_is_left_alone_until_it_is_reset(lane: Lane, settings: Settings) -> None:
    workers, control = Workers(lane, settings), lane.cluster.control
    workers.work(100)
    workers.work(100)
    knobs.set_by_hand(control, settings, Knob.CLAIM_SIZE, 64)
    assert knobs.trial(control) is None
    workers.work(100)
    assert last(lane).knob is Knob.DRAINS_PER_SHARD
    assert {one.knob: (one.value, one.by) for one in knobs.status(control, settings)} == {
        Knob.CLAIM_SIZE: (64, "hand"),
        Knob.DRAINS_PER_SHARD: (3, "auto-tune"),
        Knob.EF_SEARCH: (200, "settings"),
    }
    assert knobs.reset(control, settings, Knob.CLAIM_SIZE).value == 256


def test_what_is_out_of_bounds_is_refused(lane: Lane, settings: Settings) -> None:
    with pytest.raises(InvalidInput, match="claim_size has to be from 32 to 1024: MEMLANE_TUNE_CLAIM_SIZE"):
        knobs.set_by_hand(lane.cluster.control, settings, Knob.CLAIM_SIZE, 31)
    assert knobs.history(lane.cluster.control, 1) == []


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [("tune_claim_size", (100, 10), "tune_claim_size must be the least"), ("drains_per_shard", 0, "DRAINS_PER_SHARD")],
)
def test_bounds_that_are_wrong_are_refused(name: str, value: object, why: str) -> None:
    with pytest.raises(Misconfigured, match=why):
        load_settings(**{name: value})


def test_where_it_is_off_nothing_runs_and_only_what_was_set_by_hand_holds(
    make_settings: MakeSettings, make_lane: Callable[[Settings], Lane]
) -> None:
    settings = make_settings(autotune=False)
    lane = make_lane(settings)
    run_once(lane, "holder", "tune")
    with sql(settings) as connection:
        assert connection.execute("SELECT 1 FROM control.ticks").fetchall() == []
        connection.execute("INSERT INTO control.knobs (knob, value) VALUES ('claim_size', 512)")
    knobs.set_by_hand(lane.cluster.control, settings, Knob.EF_SEARCH, 100)
    assert [one.value for one in knobs.status(lane.cluster.control, settings)] == [256, 2, 100]
    assert load_settings(profile="development").autotunes is False
    assert load_settings(profile="test").autotunes is True


def test_the_workers_role_may_tune(settings: Settings, make_lane: Callable[[Settings], Lane]) -> None:
    worker = make_lane(as_role(settings, "memlane_worker"))
    workers = Workers(worker, settings)
    workers.work(100)
    assert "on trial" in workers.work(100)
    assert "is kept" in workers.work(200)


def test_the_gateways_role_may_set_and_reset(settings: Settings, make_lane: Callable[[Settings], Lane]) -> None:
    gateway = make_lane(as_role(settings, "memlane_gateway"))
    knobs.set_by_hand(gateway.cluster.control, settings, Knob.CLAIM_SIZE, 64)
    assert knobs.reset(gateway.cluster.control, settings, Knob.CLAIM_SIZE).by == "settings"
    assert [one.after for one in knobs.history(gateway.cluster.control, 9)] == [256, 64]


def test_more_of_an_index_is_looked_at_where_recall_is_low_and_no_more_where_that_does_not_help(
    make_settings: MakeSettings, make_lane: Callable[[Settings], Lane], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = make_settings(promote_at=200, slice_s=30.0)
    lane = make_lane(settings)
    assert canary.sing(lane, 200) is None
    remembered(lane, *(item(f"topic {n % 40} word {n * 7 % 90} number {n}") for n in range(400)))
    shard = lane.cluster.shard(lane.cluster.shard_of("acme", "ada"))
    optimize.optimize_shard(lane, shard, None)
    sung = canary.sing(lane, 200)
    assert sung is not None
    assert (sung.recall, sung.asked) == (1.0, 10)
    assert "recall" not in tune(lane, Slice(50.0))
    monkeypatch.setattr(tuning, "RECALL_LOW", 1.1)  # so that whatever is found is too little
    assert "ef_search 200 -> 301 is on trial: recall@10 of 10 questions is 1.000" in tune(lane, Slice(50.0))
    eventually(lambda: lane.cluster.knobs.of(lane.settings, Knob.EF_SEARCH) == 301)
    assert "ef_search 200 -> 301 is taken back: recall@10 1 -> 1" in tune(lane, Slice(50.0))


def test_the_canary_sees_what_an_index_does_not_bring_up(
    make_settings: MakeSettings, make_lane: Callable[[Settings], Lane]
) -> None:
    settings = make_settings(promote_at=200, slice_s=30.0)
    lane = make_lane(settings)
    remembered(lane, *(item(f"topic {n % 40} word {n * 7 % 90} number {n}") for n in range(400)))
    shard = lane.cluster.shard(lane.cluster.shard_of("acme", "ada"))
    optimize.optimize_shard(lane, shard, None)
    made = upkeep.promotion(shard, 1, lane.model.name)
    assert made is not None
    table, index = f"{shard.schema}.{lane.table}", f"'{shard.schema}.{made.index_name}'::regclass"
    with sql(settings, shard.node.name) as connection:  # half of the vectors go and come back behind the index's back
        for statement in (
            f"CREATE TEMP TABLE half AS SELECT * FROM {table} WHERE number % 2 = 0",
            f"DELETE FROM {table} WHERE number % 2 = 0",
            f"UPDATE pg_index SET indisready = false WHERE indexrelid = {index}",
            f"INSERT INTO {table} OVERRIDING SYSTEM VALUE SELECT * FROM half",
            f"UPDATE pg_index SET indisready = true WHERE indexrelid = {index}",
        ):
            connection.execute(statement.encode())
    sung = canary.sing(lane, 200)
    assert sung is not None
    assert sung.recall < 0.9
    assert "ef_search 200 -> 301 is on trial: recall@10 of 10 questions is 0." in tune(lane, Slice(50.0))


@pytest.fixture
def held(lane: Lane, shard: Shard) -> Callable[[int], None]:
    """Has so many others hold leases on ada's shard."""

    def hold(count: int) -> None:
        accepted(lane, *(item(f"held {n}") for n in range(count)))
        for n in range(count):
            assert jobs.claim(shard, Kind.REMEMBER, Terms(f"holder-{n}", lane.settings.lease_s, 1))

    return hold


def test_who_finds_as_many_at_work_as_may_be_goes_home(
    lane: Lane, settings: Settings, shard: Shard, held: Callable[[int], None]
) -> None:
    held(settings.drains_per_shard)
    accepted(lane, item("one more"))
    drains.drain(process_of(lane), "drain.remember", shard.number)
    assert count_rows(settings, lane.cluster, "memories") == 0
    with sql(settings, shard.node.name) as connection:  # one has not been heard of for half of its lease
        half = f"interval '{settings.lease_s / 2} seconds'"
        connection.execute(
            f"UPDATE {shard.schema}.leases SET expires_at = now() + {half} - interval '1 second'"
            " WHERE holder = 'holder-0'".encode()
        )
    assert leases.at_work(shard, "remember", settings.lease_s) == settings.drains_per_shard - 1
    drains.drain(process_of(lane), "drain.remember", shard.number)
    assert count_rows(settings, lane.cluster, "memories") == 1


def test_a_full_claim_wakes_another_while_there_is_room(
    lane: Lane, settings: Settings, shard: Shard, held: Callable[[int], None], recorder: Recorder
) -> None:
    lane.settings = settings.model_copy(update={"slice_s": 30.0})
    knobs.set_by_hand(lane.cluster.control, settings, Knob.CLAIM_SIZE, 32)
    eventually(lambda: lane.cluster.knobs.of(lane.settings, Knob.CLAIM_SIZE) == 32)
    accepted(lane, *(item(f"memory {n}") for n in range(40)))
    recorder.take()
    drains.drain(process_of(lane), "drain.remember", shard.number)
    assert recorder.take() == [(Kind.REMEMBER, shard.number)]
    held(settings.drains_per_shard - 1)
    accepted(lane, *(item(f"more {n}") for n in range(40)))
    recorder.take()
    drains.drain(process_of(lane), "drain.remember", shard.number)
    assert recorder.take() == []  # it is the last that may be
    assert count_rows(settings, lane.cluster, "memories") == 80


@pytest.mark.parametrize(("tenants", "each", "size"), [(3, 100, 1), (1, 40, 30 * 1024)])
def test_a_claim_that_is_cut_by_shares_or_bytes_wakes_another_too(  # fixtures
    lane: Lane, settings: Settings, shard: Shard, recorder: Recorder, tenants: int, each: int, size: int
) -> None:
    """Of three tenants a claim of 256 takes 255; of large memories it takes those that fit into a MiB."""
    lane.settings = settings.model_copy(update={"slice_s": 30.0, "claim_mb": 1})
    for number in range(tenants):
        tenant = f"tenant-{number}"
        here = next(name for name in map(str, count()) if lane.cluster.shard_of(tenant, name) == shard.number)
        accepted(lane, *(item(f"{n} " + "x" * size, here) for n in range(each)), tenant=tenant)
    recorder.take()
    drains.drain(process_of(lane), "drain.remember", shard.number)
    assert recorder.take() == [(Kind.REMEMBER, shard.number)]


def test_places_are_kept(lane: Lane) -> None:
    control = lane.cluster.control
    assert progress.place(control, "duty", "part") is None
    progress.keep(control, "duty", "part", [1, 2])
    found = progress.place(control, "duty", "part")
    assert found is not None
    assert found[0] == [1, 2]
