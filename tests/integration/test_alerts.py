"""Alerts: once for each share of a budget in each period, whoever looks, and whatever the channels do."""

import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from threading import Event, Thread
from time import monotonic
from typing import Any

import pytest
import sentry_sdk
from pydantic import SecretStr

from memlane.beat.budgets import budgets as duty
from memlane.beat.channels import tell
from memlane.beat.duty import Slice
from memlane.config.logging import configure_logging
from memlane.config.sentry import configure_sentry, flush_sentry
from memlane.config.settings import Settings, load_settings
from memlane.contract.cost import AtLimit, BudgetRequest, BudgetsRequest, Period
from memlane.embedded.ports import free_port
from memlane.storage import budgets, tenants
from memlane.storage.budgets import BudgetName
from memlane.storage.roles import WORKER
from memlane.tasks.lane import Lane
from memlane.workers import duties
from tests.money import Call, Webhook, spend, webhook
from tests.sentry import listening
from tests.support import as_role, sql

# apprise imports for its mail channel what a later Python lacks, unless it does.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")

MakeLane = Callable[[Settings], Lane]

DAILY = BudgetName("acme", "", Period.DAY)
SECRETS = ("hunter2", "T0KEN")
DEAD = f"json://user:hunter2@127.0.0.1:{free_port()}/T0KEN"


def look(lane: Lane) -> None:
    """One run of the duty."""
    duty(lane, Slice(60.0))


@pytest.fixture(autouse=True)
def acme(lane: Lane) -> None:
    """A tenant whose budget is 100 micro-dollars a day."""
    tenants.create_tenant(lane.cluster.control, "acme")
    budgets.set_up(lane.cluster.control, DAILY, BudgetRequest(limit_micro=100))


@pytest.fixture
def hook() -> Iterator[Webhook]:
    with webhook() as made:
        yield made


@pytest.fixture
def worker(settings: Settings, make_lane: MakeLane) -> Callable[..., Lane]:
    """Makes lanes with the workers' rights, and these channels."""

    def make(*urls: str) -> Lane:
        limited = as_role(settings, WORKER)
        return make_lane(limited.model_copy(update={"alert_urls": tuple(map(SecretStr, urls))}))

    return make


def spent(settings: Settings, micro: int, **more: Any) -> None:
    """So much is spent."""
    with sql(settings) as connection:
        assert spend(connection, Call(tokens=50 * micro, **more))


def later(settings: Settings) -> None:
    """Time goes by, so that what was not taken is tried again."""
    with sql(settings) as connection:
        connection.execute("UPDATE control.alerts SET at = at - interval '1 hour'")


def titles(hook: Webhook) -> list[str]:
    return [message["title"] for message in hook.messages]


def shown(lane: Lane) -> list[int]:
    """The alerts that a budget shows."""
    (found,) = budgets.listed(lane.cluster.control, BudgetsRequest())
    return list(found.alerts)


def test_each_share_is_told_once(settings: Settings, worker: Callable[..., Lane], hook: Webhook) -> None:
    lane = worker(hook.url)
    look(lane)
    spent(settings, 49)
    look(lane)
    assert (hook.messages, shown(lane)) == ([], [])
    for micro, alerts in ((1, [50]), (20, [50]), (10, [50, 80]), (20, [50, 80, 100])):
        spent(settings, micro)
        look(lane)
        look(lane)
        assert shown(lane) == alerts
    assert titles(hook) == [f"memlane: {n} % of the daily budget of tenant acme is spent" for n in (50, 80, 100)]
    half, _, whole = (message["message"] for message in hook.messages)
    assert "Budget: $0.0001 a day for tenant acme." in half
    assert "Spent: $0.00005 since" in half
    assert "begins anew on" in half
    assert "What does not fit into the rest any more" in half
    assert "their vectors wait" in whole
    assert "memlane budget set acme AMOUNT --per day" in whole


def test_a_share_is_reached_when_all_of_it_is_spent(
    settings: Settings, lane: Lane, worker: Callable[..., Lane], hook: Webhook
) -> None:
    """Not half a per cent before, wherever it is told."""
    control = lane.cluster.control
    lane = worker(hook.url)
    budgets.set_up(control, DAILY, BudgetRequest(limit_micro=1000))
    spent(settings, 999)
    look(lane)
    assert (titles(hook)[0].split(" %")[0], shown(lane)) == ("memlane: 80", [50, 80])
    assert budgets.reached(control, (50, 80, 100)) == {0: 0, 50: 0, 80: 1, 100: 0}
    spent(settings, 1)
    look(lane)
    assert shown(lane) == [50, 80, 100]
    assert budgets.reached(control, (50, 80, 100)) == {0: 0, 50: 0, 80: 0, 100: 1}


def test_what_happens_at_the_limit_is_said(settings: Settings, worker: Callable[..., Lane], hook: Webhook) -> None:
    lane = worker(hook.url)
    control = worker().cluster.control
    with sql(settings) as connection:
        connection.execute("SELECT control.set_budget('acme', 'ada', 'month', 10, 'reject')")
    spent(settings, 10, agent="ada")
    look(lane)
    (message,) = hook.messages
    assert message["title"] == "memlane: 100 % of the monthly budget of agent ada of tenant acme is spent"
    assert "new memories are refused with 402" in message["message"]
    assert "memlane budget set acme AMOUNT --agent ada --per month" in message["message"]
    (_, agents) = budgets.listed(control, BudgetsRequest())
    assert (agents.agent, agents.at_limit, list(agents.alerts)) == ("ada", AtLimit.REJECT, [50, 80, 100])


def test_several_shares_at_once_are_one_message(settings: Settings, worker: Callable[..., Lane], hook: Webhook) -> None:
    spent(settings, 85)
    lane = worker(hook.url)
    look(lane)
    assert (len(hook.messages), "80 %" in titles(hook)[0], shown(lane)) == (1, True, [50, 80])


def test_two_beats_at_once_tell_once(settings: Settings, worker: Callable[..., Lane], hook: Webhook) -> None:
    spent(settings, 50)
    lanes = [worker(hook.url) for _ in range(4)]
    threads = [Thread(target=look, args=(lane,)) for lane in lanes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(hook.messages) == 1


def test_a_raised_limit_is_told_of_again(
    lane: Lane, settings: Settings, worker: Callable[..., Lane], hook: Webhook
) -> None:
    watching = worker(hook.url)
    spent(settings, 90)
    look(watching)
    budgets.set_up(lane.cluster.control, DAILY, BudgetRequest(limit_micro=150))
    look(watching)
    assert (len(hook.messages), shown(watching)) == (1, [50])
    spent(settings, 30)
    look(watching)
    assert titles(hook)[1:] == ["memlane: 80 % of the daily budget of tenant acme is spent"]


def test_the_shares_are_those_of_the_settings(settings: Settings, worker: Callable[..., Lane], hook: Webhook) -> None:
    lane = worker(hook.url)
    lane.settings = lane.settings.model_copy(update={"alert_percents": (33,)})
    spent(settings, 60)
    look(lane)
    assert shown(lane) == [33]


def test_without_channels_it_is_logged_and_done(
    settings: Settings, worker: Callable[..., Lane], hook: Webhook, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logging(settings)
    spent(settings, 50)
    look(worker())
    look(worker())
    logging.getLogger().handlers.clear()
    said = [line for line in capsys.readouterr().err.splitlines() if "budget.reached" in line]
    assert len(said) == 1
    assert "warning" in said[0]
    assert "acme" in said[0]
    look(worker(hook.url))  # channels that are set later are not told what is old
    assert hook.messages == []


def test_sentry_is_told_without_names(settings: Settings, worker: Callable[..., Lane]) -> None:
    spent(settings, 100)
    with listening() as ingest:
        reporting = load_settings(sentry_dsn=ingest.dsn, profile="test")
        configure_logging(reporting)
        configure_sentry(reporting)
        lane = worker()
        lane.settings = lane.settings.model_copy(update={"sentry_dsn": reporting.sentry_dsn})
        look(lane)
        flush_sentry(reporting)
        sentry_sdk.get_client().close()
        sentry_sdk.get_global_scope().set_client(None)
        logging.getLogger().handlers.clear()
        assert [(e["level"], e["message"], e["tags"]["percent"]) for e in ingest.events] == [
            ("warning", "budget.reached", percent) for percent in ("50", "80", "100")
        ]
        assert b"acme" not in b"".join(ingest.raw)


@pytest.mark.parametrize("wrong", ["dead", "refusing", "nonsense", "http://127.0.0.1:1/T0KEN"])
def test_a_channel_that_takes_nothing_is_tried_again_and_given_up(
    settings: Settings, worker: Callable[..., Lane], wrong: str, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logging(settings.model_copy(update={"log_level": "DEBUG"}))
    spent(settings, 80)
    with webhook(status=500) as refusing:
        lane = worker({"dead": DEAD, "refusing": refusing.url, "nonsense": "hunter2"}.get(wrong, wrong))
        look(lane)
        look(lane)  # too soon
        for _ in range(9):
            later(settings)
            look(lane)
        assert refusing.asked == (6 if wrong == "refusing" else 0)
    logging.getLogger().handlers.clear()
    said = capsys.readouterr().err
    assert said.count("alert.not_taken") == 6
    assert said.count("alert.given_up") == 1
    assert [secret for secret in SECRETS if secret in said] == []


def test_a_channel_that_is_back_is_told_once(settings: Settings, worker: Callable[..., Lane], hook: Webhook) -> None:
    lane = worker(hook.url)
    hook.status = 503
    spent(settings, 50)
    look(lane)
    hook.status = 200
    later(settings)
    look(lane)
    later(settings)
    look(lane)
    assert (hook.asked, len(hook.messages)) == (2, 1)


def test_a_channel_that_hangs_holds_up_no_other(hook: Webhook) -> None:
    with webhook(hangs=Event()) as hanging:
        begun = monotonic()
        outcomes = tell([SecretStr(hanging.url), SecretStr(hook.url), SecretStr(DEAD)], "title", "body", 2.0)
        assert monotonic() - begun < 10
    assert [(told.channel, told.why is None) for told in outcomes] == [
        ("1 (json)", False),
        ("2 (json)", True),
        ("3 (json)", False),
    ]
    assert [(message["title"], message["message"]) for message in hook.messages] == [("title", "body")]


def test_one_channel_that_takes_it_is_enough(settings: Settings, worker: Callable[..., Lane], hook: Webhook) -> None:
    lane = worker(DEAD, hook.url)
    spent(settings, 50)
    look(lane)
    later(settings)
    look(lane)
    assert len(hook.messages) == 1


def test_where_channels_are_dead_a_run_tries_one_alert(
    lane: Lane, settings: Settings, worker: Callable[..., Lane]
) -> None:
    for name in ("ada", "bob", "eve"):
        budgets.set_up(lane.cluster.control, BudgetName("acme", name, Period.DAY), BudgetRequest(limit_micro=10))
        spent(settings, 9, agent=name)
    with webhook(status=500) as refusing:
        watching = worker(refusing.url)
        for times in range(1, 4):
            look(watching)
            assert refusing.asked == times
    with sql(settings) as connection:
        tries = connection.execute("SELECT tries FROM control.alerts WHERE percent = 80").fetchall()
    assert tries == [(1,), (1,), (1,)]


def test_the_duty_runs_once_per_slot(settings: Settings, worker: Callable[..., Lane], hook: Webhook) -> None:
    spent(settings, 50)
    for holder in ("one", "two"):
        duties.run_once(worker(hook.url), holder, "budgets")
    assert len(hook.messages) == 1


def test_the_library_is_imported_only_where_it_is_used() -> None:
    code = "import sys, memlane.workers.app, memlane.gateway.app, memlane.cli.app; print('apprise' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
