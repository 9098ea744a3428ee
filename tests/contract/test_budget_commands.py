"""The commands about money against a real gateway: for an operator, for a tenant, and without a server."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from memlane.cli.app import app
from memlane.config.settings import Settings
from memlane.errors import Forbidden, InvalidInput, Misconfigured, NotFound
from memlane.storage import tenants
from memlane.tasks.lane import Lane
from tests.money import Call, spend, webhook
from tests.support import sql

Run = Callable[..., Any]


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command where there is no server; what it prints, or the document with --json."""
    monkeypatch.setenv("MEMLANE_DATA", str(tmp_path / "no stack"))
    for name in ("MEMLANE_URL", "MEMLANE_API_KEY"):
        monkeypatch.delenv(name, raising=False)

    def go(*words: str) -> Any:
        done = CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1"}).invoke(app, list(words))
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout) if "--json" in words else " ".join(done.output.split())

    return go


@pytest.fixture
def operator(alone: Run, gateway: str, admin_key: str, tenant_key: str) -> Run:
    """As `alone`, with the admin key."""
    assert tenant_key
    return lambda *words: alone(*words, "--url", gateway, "--api-key", admin_key)


@pytest.fixture
def tenant(alone: Run, gateway: str, tenant_key: str) -> Run:
    """As `alone`, with the key of tenant `acme`."""
    return lambda *words: alone(*words, "--url", gateway, "--api-key", tenant_key)


def test_budgets_are_set_seen_and_removed(operator: Run, tenant: Run, lane: Lane, settings: Settings) -> None:
    tenants.create_tenant(lane.cluster.control, "rival")
    said = operator("budget", "set", "acme", "5.00")
    assert said.startswith(
        "tenant acme may spend $5.00 a day; $0.00 is spent, vectors wait when it is used up, and it begins anew on 20"
    )
    made = operator(
        "budget", "set", "acme", "0.0002", "--agent", "ada", "--per", "month", "--at-limit", "reject", "--json"
    )
    assert (made["limit_micro"], made["agent"], made["period"], made["at_limit"]) == (200, "ada", "month", "reject")
    operator("budget", "set", "rival", "$1")
    with sql(settings) as connection:
        assert spend(connection, Call("acme", "ada", tokens=50 * 150, texts=10, saved_texts=2))
        assert spend(connection, Call("rival", tokens=50))
    shown = operator("budget", "list")
    assert "│ acme │ ada │ $0.0002 a month │ $0.00015, 75 % │" in shown
    assert "rival" in shown
    assert "rival" not in operator("budget", "list", "acme")
    assert [one["tenant"] for one in tenant("budget", "list", "--json")] == ["acme", "acme"]
    assert "rival" not in tenant("budget", "list")
    assert "$0.00015" in tenant("budget", "history", "--agent", "ada")
    assert len(operator("budget", "history", "--per", "day", "--json")) == 2
    (used,) = tenant("budget", "usage", "--by", "agent,model", "--json")
    assert (used["agent"], used["model"], used["cost_micro"]) == ("ada", "text-embedding-3-small", 150.0)
    both = operator("budget", "usage", "acme", "--by", "agent")
    assert "│ ada │ 1 │ 0 │ 10 │ 7500 │ $0.00015 │" in both
    assert "│ ada │ 11 │ 2 │ 0 │ $0.00 │" in both
    assert operator("budget", "usage", "--since", "2020-01-01", "--until", "2020-01-31") == "nothing was used"
    with pytest.raises(Forbidden, match="yours is shown"):
        tenant("budget", "list", "rival")
    for words in (("set", "acme", "5"), ("remove", "acme")):
        with pytest.raises(Forbidden):
            tenant("budget", *words)
    assert operator("budget", "remove", "acme") == "tenant acme has no budget a day any more"
    with pytest.raises(NotFound):
        operator("budget", "remove", "acme")
    operator("budget", "remove", "acme", "--agent", "ada", "--per", "month")
    assert operator("budget", "list", "acme") == "there are no budgets"


def test_wrong_amounts_are_refused(operator: Run) -> None:
    for amount in ("0", "5.0000001", "five", "1e3", "1000001"):
        with pytest.raises(InvalidInput):
            operator("budget", "set", "acme", amount)
    with pytest.raises(NotFound):
        operator("budget", "set", "nobody", "5")
    assert operator("budget", "list") == "there are no budgets"


def test_prices_are_listed_and_set(operator: Run) -> None:
    assert "│ text-embedding-3-large │ $0.13 │" in operator("cost", "prices")
    assert operator("cost", "price", "some/model", "0.025") == "some/model costs $0.025 for a million tokens"
    assert {"model": "some/model", "micro_per_million": 25_000} in operator("cost", "prices", "--json")
    assert operator("cost", "price", "some/model", "--remove") == "some/model has no price any more"
    assert "some/model" not in operator("cost", "prices")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A thousand messages, of which a hundred say what others do."""
    path = tmp_path / "memories.jsonl"
    path.write_text("".join(json.dumps({"agent": f"a{n % 9}", "content": f"m{n % 900}"}) + "\n" for n in range(1000)))
    return path


def test_a_file_is_simulated_without_a_server(alone: Run, file: Path) -> None:
    sizes = ("--batch", "1", "--batch", "20", "--latency-ms", "100")
    found = alone("cost", "simulate", str(file), *sizes, "--json")
    assert [(row["requests"], row["texts"], row["seconds"]) for row in found["rows"]] == [
        (900, 900, pytest.approx(90)),
        (45, 900, pytest.approx(4.5)),
    ]
    assert (found["micro_per_million"], found["price"], found["memories"]) == (20_000, "as memlane comes with it", 1000)
    assert "nothing was measured" in alone("cost", "simulate", str(file))
    assert "at most, one for each byte" in found["tokens"]
    assert alone("cost", "simulate", str(file), "--model", "hash", "--json")["tokens"].startswith("as the model's own")
    priced = alone("cost", "simulate", str(file), "--model", "new", "--price", "1.50", "--json")
    assert (priced["price"], priced["rows"][0]["cost_micro"]) == ("as given", priced["rows"][0]["tokens"] * 1.5)
    with pytest.raises(InvalidInput, match="nobody knows what new costs"):
        alone("cost", "simulate", str(file), "--model", "new")
    with pytest.raises(InvalidInput, match="1 to 2048"):
        alone("cost", "simulate", str(file), "--batch", "0")


def test_a_file_is_simulated_with_what_the_server_knows(
    operator: Run, tenant: Run, file: Path, settings: Settings
) -> None:
    operator("cost", "price", "text-embedding-3-small", "0.04")
    with sql(settings) as connection:
        for texts, took_s in ((16, 0.2), (32, 0.4), (32, 0.4)):
            assert spend(connection, Call(texts=texts, took_s=took_s))
    found = operator("cost", "simulate", str(file), "--batch", "20", "--batch", "100", "--json")
    assert (found["micro_per_million"], found["price"]) == (40_000, "as the server has it")
    assert [row["seconds"] for row in found["rows"]] == [pytest.approx(45 * 0.25), None]
    assert "as measured in 3 requests with up to 16, 32 texts" in found["times"]
    own = tenant("cost", "simulate", str(file), "--json")  # who is no admin sees neither
    assert own["price"] == "as memlane comes with it"


@pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")
def test_channels_are_tried_by_command(alone: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Misconfigured, match="MEMLANE_ALERT_URLS"):
        alone("alerts", "test")
    with webhook() as hook, webhook(status=500) as refusing:
        monkeypatch.setenv("MEMLANE_ALERT_URLS", json.dumps([hook.url]))
        assert alone("alerts", "test", "--json") == [{"channel": "1 (json)", "why": None}]
        assert [message["title"] for message in hook.messages] == ["memlane: a test"]
        monkeypatch.setenv("MEMLANE_ALERT_URLS", json.dumps([hook.url, refusing.url]))
        with pytest.raises(AssertionError, match=r"2 \(json\).*refuses"):
            alone("alerts", "test")
