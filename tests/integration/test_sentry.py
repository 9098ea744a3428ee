"""Sentry in one process: what is chosen of an error, and the check-ins of a duty."""

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from time import monotonic

import psycopg
import pytest
import sentry_sdk
import structlog
from pydantic import SecretStr
from sentry_sdk.crons import capture_checkin

from memlane.beat.duty import Duty, Slice
from memlane.config.logging import configure_logging
from memlane.config.sentry import chosen, configure_sentry, flush_sentry
from memlane.config.settings import Settings, load_settings
from memlane.embedded.ports import free_port
from memlane.errors import Conflict, NodeDown
from memlane.storage import ticks
from memlane.tasks.hooks import Hooks, Operation
from memlane.tasks.hooks.sentry import make as make_hook
from memlane.tasks.lane import Lane
from memlane.workers import duties
from tests.sentry import FakeSentry, listening, types

CANARY = "kanarienvogel-91c4"

log = structlog.get_logger("memlane.tests")


@pytest.fixture
def ingest() -> Iterator[FakeSentry]:
    with listening() as made:
        yield made


@pytest.fixture
def reporting(ingest: FakeSentry) -> Iterator[Settings]:
    """This process reports to the tests' Sentry until the end of the test."""
    settings = load_settings(sentry_dsn=ingest.dsn, sentry_environment="staging", profile="test")
    configure_logging(settings)
    configure_sentry(settings)
    yield settings
    sentry_sdk.get_client().close()
    sentry_sdk.get_global_scope().set_client(None)
    logging.getLogger().handlers.clear()


def logged(error: Exception, text: str = "drain.failed", name: str | None = None, **fields: object) -> None:
    """Raise an error and log it where it is caught."""
    try:
        raise error
    except Exception:
        if name is None:
            log.exception(text, **fields)
        else:
            logging.getLogger(name).exception("it broke on %r", text)


def test_an_event_says_where_and_never_what(ingest: FakeSentry, reporting: Settings) -> None:
    local = f"the {CANARY} in a local variable"
    sentry_sdk.set_user({"username": CANARY})
    sentry_sdk.set_extra("text", CANARY)
    sentry_sdk.add_breadcrumb(message=CANARY)
    logged(psycopg.DataError(f"the row says {CANARY}"), kind="remember", shard=3, jobs=7, agent=CANARY, why=local)
    flush_sentry(reporting)
    (event,) = ingest.events
    assert set(event) == {
        *("event_id", "timestamp", "level", "logger", "platform", "release", "environment", "sdk", "message"),
        *("tags", "contexts", "exception"),
    }
    assert event["message"] == "drain.failed"
    assert event["logger"] == "memlane.tests"
    assert event["tags"] == {"kind": "remember", "shard": "3", "jobs": "7"}
    assert event["environment"] == "staging"
    assert event["release"].startswith("memlane@")
    (exception,) = event["exception"]["values"]
    assert "value" not in exception
    (frame,) = exception["stacktrace"]["frames"]
    assert frame["function"] == "logged"
    assert set(frame) == {"filename", "function", "module", "lineno", "in_app"}
    assert CANARY.encode() not in b"".join(ingest.raw)


def test_an_event_names_its_operation(ingest: FakeSentry, reporting: Settings) -> None:
    """Whether it is logged inside of the operation or after it, as at the gateway; the inner one of two counts."""
    hooks = Hooks({"sentry": make_hook(reporting)})
    error = ValueError(CANARY)
    with suppress(ValueError), hooks.around(Operation("remember", CANARY)):
        logged(KeyError(CANARY))
        with hooks.around(Operation("embed")):
            raise error
    logged(error)
    logged(KeyError(CANARY))
    flush_sentry(reporting)
    assert [event["tags"].get("operation") for event in ingest.events] == ["remember", "embed", None]
    assert CANARY.encode() not in b"".join(ingest.raw)


def test_messages_of_ours_are_sent_and_those_of_callers_are_not(ingest: FakeSentry, reporting: Settings) -> None:
    logged(NodeDown("node b does not answer"))
    logged(Conflict(f"key {CANARY!r} of this agent holds other content"))
    flush_sentry(reporting)
    down, conflict = ingest.events
    assert down["exception"]["values"][0]["value"] == "node b does not answer"
    assert "value" not in conflict["exception"]["values"][0]
    assert CANARY.encode() not in b"".join(ingest.raw)


def test_foreign_loggers_are_named_and_their_words_are_not_sent(ingest: FakeSentry, reporting: Settings) -> None:
    logged(ValueError(CANARY), CANARY, "some.library")
    logging.getLogger("another.library").error("no exception, but %s", CANARY)
    logging.getLogger("another.library").warning("no error: %s", CANARY)
    flush_sentry(reporting)
    first, second = ingest.events
    assert (first["message"], types(first)) == ("an error in some.library", ["ValueError"])
    assert (second["message"], types(second)) == ("an error in another.library", [])
    assert CANARY.encode() not in b"".join(ingest.raw)


def test_what_is_not_named_is_left_out() -> None:
    made = chosen({"request": {"url": CANARY}, "extra": {"a": CANARY}, "server_name": "somebodys-laptop"}, {})
    assert set(made) == {"tags", "contexts"}


def test_check_ins_leave_nothing_else(ingest: FakeSentry, reporting: Settings) -> None:
    sentry_sdk.set_extra("text", CANARY)
    capture_checkin("memlane-vacuum", status="ok")
    flush_sentry(reporting)
    assert ingest.check_ins("memlane-vacuum") == ["ok"]
    assert CANARY.encode() not in b"".join(ingest.raw)


def works(_lane: Lane, _slice: Slice) -> str:
    return "all of it"


def breaks(_lane: Lane, _slice: Slice) -> str:
    raise RuntimeError(f"it broke on {CANARY}")


@pytest.fixture
def duty_lane(lane: Lane, reporting: Settings, monkeypatch: pytest.MonkeyPatch) -> Lane:
    """A lane whose settings report, and three duties: one that works, one that breaks, one of 90 seconds."""
    lane.settings = lane.settings.model_copy(update={"sentry_dsn": reporting.sentry_dsn})
    every_s = {"works": 86_400.0, "breaks": 600.0, "odd": 90.0}
    made = {name: Duty(breaks if name == "breaks" else works, lambda _: None, 50.0) for name in every_s}
    monkeypatch.setattr(duties, "DUTIES", made)
    monkeypatch.setattr(duties, "periods", lambda _settings: every_s)
    return lane


def test_a_duty_checks_in_where_it_runs(ingest: FakeSentry, duty_lane: Lane) -> None:
    duties.run_once(duty_lane, "one", "works")
    duties.run_once(duty_lane, "two", "works")
    with pytest.raises(RuntimeError):
        duties.run_once(duty_lane, "one", "breaks")
    duties.run_once(duty_lane, "one", "odd")
    flush_sentry(duty_lane.settings)
    assert ingest.check_ins("memlane-works") == ["in_progress", "ok"]
    assert ingest.check_ins("memlane-breaks") == ["in_progress", "error"]
    assert ingest.check_ins("memlane-odd") == []
    (first, *_) = [said for kind, said in ingest.items if kind == "check_in"]
    assert first["monitor_config"]["schedule"] == {"type": "interval", "value": 1440, "unit": "minute"}
    assert first["monitor_config"]["checkin_margin"] == 720
    assert {tick.name for tick in ticks.last(duty_lane.cluster.control)} == {"works", "breaks", "odd"}
    assert CANARY.encode() not in b"".join(ingest.raw)


def test_a_dead_sentry_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    settings = load_settings(sentry_dsn=f"http://key@127.0.0.1:{free_port()}/1", profile="test")
    configure_logging(settings)
    configure_sentry(settings)
    begun = monotonic()
    for _ in range(5):
        logged(ValueError(CANARY))
    flush_sentry(settings)
    assert monotonic() - begun < 10
    sentry_sdk.get_client().close()
    sentry_sdk.get_global_scope().set_client(None)
    logging.getLogger().handlers.clear()
    said = capsys.readouterr().err
    assert said.count("sentry.not_sent") == 1
    assert "urllib3" not in said


def test_a_dsn_that_is_none_is_one_clear_line(capsys: pytest.CaptureFixture[str]) -> None:
    settings = load_settings(sentry_dsn="nonsense-hunter2", profile="test")
    configure_logging(settings)
    configure_sentry(settings)
    logging.getLogger().handlers.clear()
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1
    assert "SENTRY_DSN" in said
    assert "hunter2" not in said
    assert not sentry_sdk.is_initialized()


def test_the_dsn_is_read_under_both_names(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings().sentry_dsn is None
    monkeypatch.setenv("SENTRY_DSN", "http://a@h/1")
    assert load_settings().sentry_dsn == SecretStr("http://a@h/1")
    monkeypatch.setenv("MEMLANE_SENTRY_DSN", "http://b@h/1")
    assert load_settings().sentry_dsn == SecretStr("http://b@h/1")
    assert "http://b@h" not in repr(load_settings())


def test_without_a_dsn_the_sdk_is_not_even_imported() -> None:
    code = (
        "import sys; import memlane.workers.app, memlane.gateway.app\n"
        "from memlane.config.sentry import configure_sentry; from memlane.config.settings import load_settings\n"
        "configure_sentry(load_settings()); print('sentry_sdk' in sys.modules)"
    )
    env = {name: value for name, value in os.environ.items() if "SENTRY" not in name}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
