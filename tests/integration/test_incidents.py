"""Looks, incidents and the watchdog against real servers: what is kept, what is told, by whom, and how often."""

import logging
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from threading import Thread
from typing import Any

import httpx
import pytest
import sentry_sdk
from pydantic import SecretStr

from memlane.beat import incidents as telling
from memlane.beat.duties import due
from memlane.beat.duty import Slice
from memlane.beat.health import health as duty
from memlane.beat.retention import retention
from memlane.beat.tell import tell
from memlane.config.logging import configure_logging
from memlane.config.sentry import configure_sentry, flush_sentry
from memlane.config.settings import Settings, load_settings
from memlane.contract.health import Finding, Health, Level, Severity, component
from memlane.contract.status import BrokerStatus
from memlane.gateway.healthy import Healthy
from memlane.gateway.watchdog import Watchdog
from memlane.storage import incidents, processes, reports, ticks
from memlane.storage.processes import Report
from memlane.storage.reports import Figures
from memlane.storage.roles import GATEWAY, WORKER
from memlane.storage.ticks import Outcome
from memlane.tasks.lane import Lane
from memlane.workers import duties
from tests.contract.conftest import serving
from tests.money import Webhook, webhook
from tests.sentry import listening
from tests.support import as_role, eventually, sql

pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")

MakeLane = Callable[[Settings], Lane]


@pytest.fixture
def hook() -> Iterator[Webhook]:
    with webhook() as made:
        yield made


@pytest.fixture
def lane_of(settings: Settings, make_lane: MakeLane) -> Callable[..., Lane]:
    """Makes lanes of a role with these channels; the broker is up, and control was steady for long."""

    def make(role: str, *urls: str, **more: Any) -> Lane:
        limited = as_role(settings, role).model_copy(update={"alert_urls": tuple(map(SecretStr, urls)), **more})
        lane = make_lane(limited)
        lane.ask_broker = lambda: BrokerStatus("redis", True, {})
        lane.cluster.control._steady_since -= 3600.0
        return lane

    return make


@pytest.fixture
def crew(lane: Lane) -> None:
    """Somebody of each class that is needed lives."""
    for class_ in ("ingest", "sweep", "beat", "gateway"):
        processes.begin(lane.cluster.control, f"host:1:{class_}", class_, Report({}, {}))


def look(lane: Lane) -> str:
    """One run of the duty that looks, and one of that which tells."""
    return f"{duty(lane, due(lane.settings))}, {tell(lane, Slice(60.0))}"


def titles(hook: Webhook) -> list[str]:
    return [message["title"] for message in hook.messages]


def lose(settings: Settings, class_: str, silent_s: float = 30) -> None:
    """The processes of a class say nothing any more."""
    with sql(settings) as connection:
        connection.execute(
            "UPDATE control.processes SET seen_at = now() - make_interval(secs => %s) WHERE class = %s",
            (silent_s, class_),
        )


def later(settings: Settings) -> None:
    """Time goes by, so that what was not taken is tried again."""
    with sql(settings) as connection:
        connection.execute("UPDATE control.incidents SET try_at = now()")


@pytest.mark.usefixtures("crew")
def test_all_is_well_and_nobody_is_told(lane_of: Callable[..., Lane], hook: Webhook) -> None:
    lane = lane_of(WORKER, hook.url)
    assert look(lane) == "score 100, 0 told"
    look(lane)
    last = reports.newest(lane.cluster.control)
    assert last is not None
    assert (last.health.score, last.age_s < 30, hook.asked) == (100, True, 0)


@pytest.mark.usefixtures("crew")
def test_a_lost_process_is_told_once_and_once_more_when_it_is_back(
    settings: Settings, lane_of: Callable[..., Lane], hook: Webhook
) -> None:
    lane = lane_of(WORKER, hook.url)
    look(lane)
    lose(settings, "ingest")
    for _ in range(3):
        look(lane)
    assert titles(hook) == ["memlane: critical: ingest processes: none lives: host:1 not heard of any more"]
    assert "start the ingest worker again" in hook.messages[0]["message"]
    processes.begin(lane.cluster.control, "host:2:new", "ingest", Report({}, {}))
    look(lane)
    assert len(hook.messages) == 1  # one good look may be a blip
    for _ in range(2):
        look(lane)
    assert titles(hook)[1:] == ["memlane: over: ingest processes"]
    assert "It lasted" in hook.messages[1]["message"]
    assert incidents.open_(lane.cluster.control) == []


@pytest.mark.usefixtures("crew")
def test_who_has_no_channels_leaves_it_to_those_that_have(
    settings: Settings, lane_of: Callable[..., Lane], hook: Webhook
) -> None:
    dumb, told = lane_of(WORKER), lane_of(WORKER, hook.url)
    lose(settings, "ingest")
    assert look(dumb).endswith("no channels here")
    dog = armed(lane_of(GATEWAY))
    age(settings, 100)
    dog.watch()  # a gateway without channels
    assert hook.messages == []
    assert tell(told, Slice(60.0)) == "1 told"
    assert titles(hook)[0].startswith("memlane: critical: ingest processes")


@pytest.mark.usefixtures("crew")
def test_what_was_over_for_long_when_channels_came_is_not_told(
    settings: Settings, lane_of: Callable[..., Lane], hook: Webhook
) -> None:
    lane = lane_of(WORKER, hook.url)
    lose(settings, "ingest")
    look(lane)
    with sql(settings) as connection:
        connection.execute("UPDATE control.incidents SET ended_at = now() - interval '2 days'")
    assert tell(lane, Slice(60.0)) == "0 told"


@pytest.mark.usefixtures("crew")
def test_a_clock_that_was_set_back_holds_no_telling_up(
    settings: Settings, lane_of: Callable[..., Lane], hook: Webhook
) -> None:
    lose(settings, "ingest")
    look(lane_of(WORKER))
    with sql(settings) as connection:
        connection.execute("UPDATE control.incidents SET try_at = now() + interval '1 hour'")
    assert tell(lane_of(WORKER, hook.url), Slice(60.0)) == "1 told"


@pytest.mark.usefixtures("crew")
def test_gateways_tell_what_the_worker_has_left_untold(
    settings: Settings, lane_of: Callable[..., Lane], hook: Webhook
) -> None:
    processes.begin(lane_of(WORKER).cluster.control, "host:2:x", "ingest", Report({}, {}))
    with sql(settings) as connection:
        connection.execute("UPDATE control.processes SET started_at = now() - interval '1 hour'")
        connection.execute("UPDATE control.processes SET seen_at = now() - interval '30 s' WHERE name = 'host:2:x'")
    look(lane_of(WORKER))
    age(settings, 15)
    dog = armed(lane_of(GATEWAY, hook.url))
    dog.watch()
    assert hook.messages == []  # its duty may still be about to
    with sql(settings) as connection:
        connection.execute("UPDATE control.incidents SET try_at = now() - interval '80 s'")
    dog.watch()
    assert [title.split(": ")[1:3] for title in titles(hook)] == [["error", "ingest processes"]]


@pytest.mark.usefixtures("crew")
def test_the_long_lost_are_forgotten(settings: Settings, lane_of: Callable[..., Lane]) -> None:
    lane = lane_of(WORKER)
    lose(settings, "ingest", 3599)
    look(lane)
    names = {process.class_ for process in processes.living(lane.cluster.control)}
    assert "ingest" in names
    lose(settings, "ingest", 3601)
    look(lane)
    assert "ingest" not in {process.class_ for process in processes.living(lane.cluster.control)}
    lose(settings, "gateway", 125)
    processes.begin(lane.cluster.control, "host:2:new", "gateway", Report({}, {}))
    look(lane)
    found = [process.name for process in processes.living(lane.cluster.control) if process.class_ == "gateway"]
    assert found == ["host:2:new"]


@pytest.mark.usefixtures("crew")
def test_after_a_time_without_control_nobody_is_lost_at_once(
    settings: Settings, lane_of: Callable[..., Lane], hook: Webhook
) -> None:
    lane = lane_of(WORKER, hook.url)
    for class_ in ("ingest", "sweep", "beat", "gateway"):
        lose(settings, class_, 60)
    lane.cluster.control._steady_since += 3599.0
    look(lane)
    assert hook.messages == []


@pytest.mark.usefixtures("crew")
def test_duties_that_fail_are_told_at_the_second_look(
    settings: Settings, lane_of: Callable[..., Lane], hook: Webhook
) -> None:
    lane = lane_of(WORKER, hook.url)
    tick = ticks.claim(lane.cluster.control, "expire", 60.0, 50.0, "test")
    assert tick is not None
    ticks.finish(lane.cluster.control, tick, Outcome.FAILED, "a node is down")
    look(lane)
    assert hook.messages == []
    look(lane)
    assert titles(hook) == ["memlane: warning: duty expire: failed: a node is down"]
    with sql(settings) as connection:
        connection.execute("UPDATE control.ticks SET claimed_at = now() - interval '1 hour'")
        connection.execute("UPDATE control.processes SET started_at = now() - interval '1 hour'")
    look(lane)
    look(lane)
    assert any(title.startswith("memlane: error: duty expire: has not run for") for title in titles(hook)[1:])
    runs = ticks.runs(lane.cluster.control)["expire"]
    assert (dict(runs.outcomes), runs.since_good_s) == ({"failed": 1}, None)


def test_runs_are_told_as_they_were(settings: Settings, lane: Lane) -> None:
    control = lane.cluster.control

    def run(name: str, ago: str, outcome: str | None, done: bool = True, over: bool = True) -> None:
        with sql(settings) as connection:
            connection.execute(
                "INSERT INTO control.ticks (name, slot, holder, claimed_at, done_at, outcome, stop_at)"
                " SELECT %s, at, 'h', at, CASE WHEN %s THEN at END, %s, CASE WHEN %s THEN at ELSE now() END"
                " FROM (SELECT now() - %s::interval AS at) a",
                (name, done, outcome, over, ago),
            )

    run("expire", "3 days", "done")
    for ago in ("2 days", "20 hours", "1 hour"):
        run("expire", ago, "failed")
    run("expire", "1 second", None, done=False, over=False)
    run("vacuum", "30 hours", "failed")
    run("moments", "10 hours", None)  # of the version before, which noted no outcome
    run("moments", "9 hours", None, done=False)
    runs = ticks.runs(control)
    assert {name: dict(one.outcomes) for name, one in runs.items()} == {
        "expire": {"failed": 2},
        "vacuum": {},
        "moments": {"done": 1, "broken_off": 1},
    }
    assert runs["expire"].since_good_s == pytest.approx(3 * 86400, abs=60)
    assert runs["moments"].since_good_s == pytest.approx(36000, abs=60)
    assert runs["vacuum"].since_good_s is None
    assert runs["vacuum"].since_first_s == pytest.approx(108000, abs=60)
    shown = Healthy()
    shown.look(control, {"expire", "vacuum"})  # moments is switched off
    (last,) = [one for one in shown.collect() if one.name == "memlane_duty_last_seconds"]
    hours = {sample.labels["duty"]: round(sample.value / 3600) for sample in last.samples}
    assert hours == {"expire": 72, "vacuum": 30}


def test_several_who_look_at_once_tell_once(
    settings: Settings, lane: Lane, lane_of: Callable[..., Lane], hook: Webhook
) -> None:
    processes.begin(lane.cluster.control, "host:1:ingest", "ingest", Report({}, {}))
    lose(settings, "ingest")
    lanes = [lane_of(role, hook.url) for role in (WORKER, WORKER, GATEWAY)]
    dogs = [Watchdog(lanes[2])]
    dogs[0]._begun_at -= 3600.0
    threads = [Thread(target=look, args=(one,)) for one in lanes[:2]] + [Thread(target=dogs[0].watch)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len([title for title in titles(hook) if "ingest" in title]) == 1


@pytest.mark.usefixtures("crew")
def test_only_what_is_bad_enough_is_told(settings: Settings, lane_of: Callable[..., Lane], hook: Webhook) -> None:
    lane = lane_of(WORKER, hook.url, incident_level=Level.CRITICAL)
    with sql(settings) as connection:
        connection.execute("INSERT INTO control.processes (name, class) VALUES ('host:2:x', 'ingest')")
        connection.execute("UPDATE control.processes SET started_at = now() - interval '1 hour'")
        connection.execute("UPDATE control.processes SET seen_at = now() - interval '30 s' WHERE name = 'host:2:x'")
    look(lane)
    (found,) = incidents.open_(lane.cluster.control)
    assert (found.level, hook.messages) == (Level.ERROR, [])
    lose(settings, "ingest")
    look(lane)
    assert len(hook.messages) == 1  # it got worse, and is told now


@pytest.mark.usefixtures("crew")
def test_a_channel_that_is_dead_is_tried_again_and_given_up(
    settings: Settings, lane_of: Callable[..., Lane], capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logging(settings)
    lose(settings, "ingest")
    with webhook(status=500) as refusing:
        lane = lane_of(WORKER, refusing.url)
        look(lane)
        look(lane)  # too soon
        assert refusing.asked == 1
        for _ in range(9):
            later(settings)
            look(lane)
        assert refusing.asked == 6
    logging.getLogger().handlers.clear()
    said = capsys.readouterr().err
    assert (said.count("incident.begun"), said.count("alert.given_up")) == (1, 1)


@pytest.mark.usefixtures("crew")
def test_sentry_is_told_the_component_and_no_names(settings: Settings, lane_of: Callable[..., Lane]) -> None:
    lose(settings, "ingest")
    with listening() as ingest:
        reporting = load_settings(sentry_dsn=ingest.dsn, profile="test")
        configure_logging(reporting)
        configure_sentry(reporting)
        look(lane_of(WORKER, sentry_dsn=reporting.sentry_dsn))
        flush_sentry(reporting)
        sentry_sdk.get_client().close()
        sentry_sdk.get_global_scope().set_client(None)
        logging.getLogger().handlers.clear()
    found = [(e["level"], e["message"], e["tags"].get("component")) for e in ingest.events]
    assert found == [("fatal", "incident.begun", "processes")]
    assert b"host:1" not in b"".join(ingest.raw)


@pytest.mark.usefixtures("crew")
def test_the_duty_runs_with_its_rights_once_in_a_slot(settings: Settings, lane_of: Callable[..., Lane]) -> None:
    for holder in ("one", "two"):
        duties.run_once(lane_of(WORKER), holder, "health")
    with sql(settings) as connection:
        row = connection.execute("SELECT count(*), max(score) FROM control.reports").fetchone()
    assert row == (1, 100)


@pytest.mark.usefixtures("crew")
def test_reports_are_thinned_and_dropped(settings: Settings, lane_of: Callable[..., Lane]) -> None:
    lane = lane_of(WORKER)
    control = lane.cluster.control
    for _ in range(3):
        look(lane)
    with sql(settings) as connection:
        connection.execute("UPDATE control.reports SET at = now() - interval '2 hours' WHERE number = 1")
        connection.execute("UPDATE control.reports SET at = now() - interval '8 days' WHERE number = 2")
        look(lane)
        retention(lane, Slice(60.0))
        left = connection.execute("SELECT number, totals IS NULL FROM control.reports ORDER BY 1").fetchall()
    assert left == [(1, True), (3, False), (4, False)]
    assert len(reports.figures(control, 300.0)) == 2
    assert reports.before(control, 300.0, 60.0) is None  # nothing is old enough
    with sql(settings) as connection:
        connection.execute("UPDATE control.reports SET at = now() - interval '2 minutes' WHERE number = 3")
    found = reports.before(control, 300.0, 60.0)
    assert found is not None
    assert 100 < found.age_s < 180


# --- the watchdog -------------------------------------------------------------------------


def armed(lane: Lane) -> Watchdog:
    """A watchdog that is there for long."""
    dog = Watchdog(lane)
    dog._begun_at -= 3600.0
    return dog


def age(settings: Settings, seconds: float) -> None:
    """All reports are from so long ago."""
    with sql(settings) as connection:
        connection.execute("UPDATE control.reports SET at = at - make_interval(secs => %s)", (seconds,))


def count(settings: Settings) -> int:
    with sql(settings) as connection:
        row = connection.execute("SELECT count(*) FROM control.reports").fetchone()
    assert row is not None
    return int(row[0])


@pytest.mark.usefixtures("crew")
def test_the_watchdog_looks_when_nobody_does(settings: Settings, lane_of: Callable[..., Lane]) -> None:
    gateway = lane_of(GATEWAY)
    Watchdog(gateway).watch()
    assert count(settings) == 0  # it has just begun: a first report may be on its way
    dog = armed(gateway)
    dog.watch()
    assert count(settings) == 1
    dog.watch()
    age(settings, 40)
    dog.watch()
    assert count(settings) == 1  # somebody looks
    age(settings, 40)
    dog.watch()
    assert count(settings) == 2


@pytest.mark.usefixtures("crew")
def test_the_watchdog_sees_that_the_broker_is_down(
    settings: Settings, lane_of: Callable[..., Lane], hook: Webhook
) -> None:
    look(lane_of(WORKER))
    age(settings, 15)
    gateway = lane_of(GATEWAY, hook.url)
    dog = armed(gateway)
    dog.watch()
    assert hook.messages == []
    gateway.ask_broker = lambda: BrokerStatus("redis", False, {})
    dog.watch()
    assert titles(hook) == ["memlane: critical: broker: does not answer"]
    gateway.ask_broker = lambda: BrokerStatus("redis", True, {})
    for _ in range(3):
        age(settings, 15)
        dog.watch()
    assert titles(hook)[1:] == ["memlane: over: broker"]
    before = count(settings)
    age(settings, 15)
    dog.watch()
    assert count(settings) == before  # all is well: the duty looks


@pytest.mark.usefixtures("crew")
def test_a_clock_that_was_set_back_blinds_nobody(settings: Settings, lane_of: Callable[..., Lane]) -> None:
    lane = lane_of(WORKER)
    look(lane)
    look(lane)
    age(settings, -3600)
    with sql(settings) as connection:
        connection.execute("UPDATE control.processes SET seen_at = seen_at + interval '1 hour'")
        connection.execute("UPDATE control.processes SET started_at = started_at + interval '1 hour'")
    control = lane.cluster.control
    processes.heard(control, "beat", {"host:1:beat": 3.0})
    silent = {process.class_: process.silent_s for process in processes.living(control)}
    assert 2 < silent["beat"] < 60
    assert reports.newest(control) is None
    assert reports.figures(control, 300.0) == []
    armed(lane_of(GATEWAY)).watch()  # and its next look finds the last one
    assert (count(settings), reports.newest(control) is not None) == (3, True)
    assert all(process.silent_s >= 0 for process in processes.living(control))


# --- what is shown ------------------------------------------------------------------------


@pytest.mark.usefixtures("crew")
def test_health_is_shown_to_the_admin_alone(settings: Settings, admin_key: str, tenant_key: str, lane: Lane) -> None:
    bad = component("broker", [Finding("broker", Severity.CRITICAL, "is bad", "mend it", sure=True)])
    telling.follow(lane, Health(datetime.now(UTC), 0, bad.band, (bad,)), None)
    reports.add(lane.cluster.control, Health(datetime.now(UTC), 0, bad.band, (bad,)), Figures(), {})
    tick = ticks.claim(lane.cluster.control, "expire", 60.0, 50.0, "test")
    assert tick is not None
    ticks.finish(lane.cluster.control, tick, Outcome.DONE, "all")
    with serving(settings) as url, httpx.Client(base_url=url, timeout=20) as http:

        def get(path: str, key: str) -> httpx.Response:
            return http.get(path, headers={"Authorization": f"Bearer {key}"})

        assert get("/v1/health", tenant_key).status_code == 403
        assert http.get("/v1/health").status_code == 401
        found = get("/v1/health", admin_key).json()
        assert found["band"] in ("good", "fair")
        assert {part["name"] for part in found["components"]} >= {"database", "broker", "processes"}
        assert [one["subject"] for one in found["incidents"]] == ["broker"]
        assert get("/v1/admin/status", admin_key).json()["health"]["score"] == found["score"]
        eventually(lambda: "memlane_health_overall 0.0" in http.get("/metrics").text, 60)
        series = http.get("/metrics").text
    for line in (
        "memlane_health_overall 0.0",
        'memlane_health_score{component="broker"} 0.0',
        'memlane_incidents{level="critical"} 1.0',
        'memlane_incidents{level="warning"} 0.0',
        'memlane_scaling_advice{advice="add_workers"} 0.0',
        'memlane_duty_outcomes{duty="expire",outcome="done"} 1.0',
    ):
        assert line in series
    assert re.search(r'memlane_duty_last_seconds\{duty="expire"\} \d', series)
