"""Logs carry no content, whatever an exception says."""

import json
import logging

import pytest
import structlog

from memlane.config.logging import configure_logging
from memlane.config.settings import load_settings
from memlane.errors import NodeDown


def json_logs() -> None:
    """Production's logs, to the standard error of this moment."""
    configure_logging(load_settings(profile="production", nodes={"a": "postgresql://h"}, broker_url="redis://h"))


def test_a_foreign_exceptions_message_is_cut(capsys: pytest.CaptureFixture[str]) -> None:
    json_logs()
    try:
        raise ValueError("canary: a memory's text")
    except ValueError:
        logging.getLogger("some.library").exception("it failed")
        structlog.get_logger("ours").exception("we failed", shard=3)
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["event"] for line in lines] == ["it failed", "we failed"]
    assert lines[1]["shard"] == 3
    for line in lines:
        assert "ValueError" in line["exception"]
        assert "canary: a" not in line["exception"].replace('raise ValueError("canary: a memory\'s text")', "")


def test_our_own_message_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    json_logs()
    try:
        raise NodeDown("node b does not answer")
    except NodeDown:
        structlog.get_logger("ours").exception("refused")
    assert "node b does not answer" in json.loads(capsys.readouterr().err)["exception"]


def test_levels(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(load_settings(log_level="WARNING"))
    structlog.get_logger("ours").info("not shown")
    structlog.get_logger("ours").warning("shown")
    found = capsys.readouterr().err
    assert "not shown" not in found
    assert "shown" in found
