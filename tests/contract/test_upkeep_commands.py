"""vacuums and tune against a real gateway, in Python, over HTTP and on the command line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from memlane.admin import Admin
from memlane.beat.duty import Slice
from memlane.beat.vacuum import vacuum
from memlane.cli.app import app
from memlane.config.settings import Settings
from memlane.contract.upkeep import Action, Ended, Knob, Verdict
from memlane.errors import Forbidden, InvalidInput
from memlane.tasks.lane import Lane
from tests.support import eventually, item, remembered, sql


@pytest.fixture
def operator(gateway: str, admin_key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Runs a command with the admin key; what it prints, or the document with --json."""
    monkeypatch.setenv("MEMLANE_DATA", str(tmp_path / "no stack"))

    def go(*words: str) -> Any:
        arguments = [*words, "--url", gateway, "--api-key", admin_key]
        done = CliRunner(env={"COLUMNS": "220", "NO_COLOR": "1"}).invoke(app, arguments)
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout) if "--json" in words else " ".join(done.output.replace("│", " ").split())

    return go


def test_vacuums_are_shown(operator: Callable[..., Any], lane: Lane, settings: Settings) -> None:
    assert operator("vacuums") == "nothing was due"
    with sql(settings) as connection:
        connection.execute(
            "INSERT INTO control.reports (score, report, figures) SELECT 1, '{}', '{}' FROM generate_series(1, 1000)"
        )
    vacuum(lane, Slice(60.0))
    assert "control reports vacuum 1000 new of 1000 rows" in operator("vacuums", "--relation", "reports")
    (found,) = operator("vacuums", "--relation", "reports", "--json")
    assert (found["node"], found["action"], found["outcome"]) == ("node-1", Action.VACUUM, Ended.DONE)
    assert operator("vacuums", "--shard", "3") == "nothing was due"


def test_a_knob_is_set_seen_and_reset(operator: Callable[..., Any], lane: Lane) -> None:
    assert "claim_size 256 32 1024 settings" in operator("tune", "show")
    assert operator("tune", "history") == "no knob was turned"
    assert operator("tune", "set", "claim_size", "512") == "claim_size stands at 512, by hand"
    eventually(lambda: lane.cluster.knobs.of(lane.settings, Knob.CLAIM_SIZE) == 512)
    assert operator("tune", "reset", "claim_size", "--json")["by"] == "settings"
    eventually(lambda: lane.cluster.knobs.of(lane.settings, Knob.CLAIM_SIZE) == 256)
    assert [(one["after"], one["why"]) for one in operator("tune", "history", "--json")] == [
        (256, "given back by hand"),
        (512, "set by hand"),
    ]


@pytest.mark.parametrize("value", ["0", "31", "1025", "9999999"])
def test_a_knob_out_of_bounds_is_refused(operator: Callable[..., Any], value: str) -> None:
    with pytest.raises(InvalidInput, match="value"):
        operator("tune", "set", "claim_size", value)
    assert operator("tune", "history") == "no knob was turned"


def test_the_admins_client_and_nobody_else(gateway: str, admin_key: str, tenant_key: str) -> None:
    with Admin(gateway, admin_key) as admin:
        assert admin.set_knob(Knob.EF_SEARCH, 100).value == 100
        with pytest.raises(InvalidInput, match="knob"):
            admin.set_knob("mood", 100)
        assert [one.state for one in admin.tunings()] == [Verdict.KEPT]
        assert admin.vacuums() == []
        assert {one.knob: one.by for one in admin.knobs()}[Knob.EF_SEARCH] == "hand"
    with Admin(gateway, tenant_key) as stranger:
        with pytest.raises(Forbidden):
            stranger.set_knob(Knob.EF_SEARCH, 50)
        with pytest.raises(Forbidden):
            stranger.vacuums()


def test_indexes_are_listed(operator: Callable[..., Any], lane: Lane, settings: Settings) -> None:
    assert operator("optimize", "--list") == "no agent has an index"
    remembered(lane, item())
    shard = lane.cluster.shard(lane.cluster.shard_of("acme", "ada"))
    with sql(settings, shard.node.name) as connection:
        connection.execute(
            f"INSERT INTO {shard.schema}.promotions (agent, model, upto, index_name, m, ef_construction, ef_search,"
            f" tail) VALUES (1, '{lane.model.name}', 1, 'gone', 24, 200, 301, 7)".encode()
        )
        connection.execute(
            f"INSERT INTO {shard.schema}.canaries (agent, model, recall, questions, ms, at)"
            f" VALUES (1, '{lane.model.name}', 0.9, 20, 3.25, now())".encode()
        )
    assert "acme ada 1 7 0.0 m 24, 200 301 0.900 of 20 3.2 0" in operator("optimize", "--list")
    (one,) = operator("optimize", "--list", "--json")
    assert (one["agent"], one["recall"], one["ef_search"], one["shard"]) == ("ada", 0.9, 301, shard.number)
    with pytest.raises(AssertionError, match="name an agent"):
        operator("optimize")
