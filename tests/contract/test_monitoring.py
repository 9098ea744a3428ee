"""Prometheus and Grafana ask for what there is: rules and dashboard name series, labels and commands that exist."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import typer.main
import yaml
from prometheus_client.parser import text_string_to_metric_families

from memlane.cli.app import app
from memlane.config.settings import load_settings
from memlane.errors import not_ours
from memlane.gateway import live
from memlane.reference.metrics import Source, families
from memlane.storage import processes
from memlane.storage.jobs import Kind
from memlane.storage.processes import Report
from memlane.tasks.health.requests import FAR
from memlane.tasks.lane import Lane
from memlane.tasks.measures import Measures
from tests.processes import CI
from tests.support import accepted, drain_all, eventually, item

ROOT = Path(__file__).parents[2]
RULES = ROOT / "config" / "prometheus" / "memlane.rules.yml"
PROMETHEUS = ROOT / "config" / "prometheus" / "prometheus.yml"
DASHBOARD = ROOT / "config" / "grafana" / "dashboards" / "memlane.json"
RULE_TESTS = ROOT / "tests" / "rules" / "memlane.test.yml"

PROMETHEUS_OWN = {"up": ("job", "instance"), "ALERTS": ("alertname", "alertstate", "severity")}
ADDED = {"instance", "job"}
"""The labels that Prometheus adds to each series that it asks for."""

WORDS = re.compile(r"^(sum|max|min|count|avg|and|or|unless|rate|increase|delta|absent|vector|histogram_quantile)$")


def expressions() -> Iterator[tuple[str, str]]:
    """Where each expression stands, and itself."""
    for group in yaml.safe_load(RULES.read_text())["groups"]:
        for rule in group["rules"]:
            yield rule["alert"], rule["expr"]
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"]


EXPRESSIONS = list(expressions())


def selectors(expression: str) -> dict[str, set[str]]:
    """The series that an expression names, each with the labels that it selects by."""
    found: dict[str, set[str]] = {}
    for name, having in re.findall(r"([a-zA-Z_]\w*)\{([^}]*)\}", expression):
        found.setdefault(name, set()).update(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"", having))
    bare = re.sub(r"[a-zA-Z_]\w*\{[^}]*\}|\[[^\]]*\]|\b(by|without|on|ignoring)\s*\([^)]*\)", " ", expression)
    for name in re.findall(r"\b[a-zA-Z_]\w*", bare):
        if not WORDS.match(name):
            found.setdefault(name, set())
    return found


def grouping(expression: str) -> set[str]:
    """The labels that an expression groups or matches by."""
    lists = re.findall(r"\b(?:by|without|on|ignoring)\s*\(([^)]*)\)", expression)
    return {label.strip() for one in lists for label in one.split(",") if label.strip()}


def known() -> dict[str, tuple[str, ...]]:
    """All series with their labels."""
    return {name: labels for family in families() for name, labels in family.series.items()}


def test_the_reading_of_expressions_finds_what_is_there() -> None:
    found = selectors('max without (job) (rate(a_total{x="b_c", y=~"d|e"}[5m])) / on (z) c_bucket > 0.5')
    assert found == {"a_total": {"x", "y"}, "c_bucket": set()}
    assert selectors('absent(up{job="memlane"} == 1)') == {"up": {"job"}}
    assert grouping("sum by (le, route) (a) / on (x) b") == {"le", "route", "x"}


@pytest.mark.parametrize(("where", "expression"), EXPRESSIONS, ids=[where for where, _ in EXPRESSIONS])
def test_series_and_labels_exist(where: str, expression: str) -> None:
    there = {**known(), **PROMETHEUS_OWN}
    used = selectors(expression)
    assert used, where
    for name, having in used.items():
        assert name in there, name
        assert having <= {*there[name], *ADDED}, name
    labels = {label for name in used for label in there[name]}
    assert grouping(expression) <= labels | ADDED


def texts() -> Iterator[tuple[str, str, str]]:
    """Templates of rules and legends, each with its expression."""
    for group in yaml.safe_load(RULES.read_text())["groups"]:
        for rule in group["rules"]:
            yield rule["alert"], rule["expr"], " ".join(rule["annotations"].values())
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"], re.sub(r"\{\{(\w+)\}\}", r"{{ $labels.\1 }}", target["legendFormat"])


def test_texts_use_labels_that_their_series_have() -> None:
    there = {**known(), **PROMETHEUS_OWN}
    for where, expression, text in texts():
        labels = {label for name in selectors(expression) for label in there[name]} | ADDED
        assert set(re.findall(r"\$labels\.(\w+)", text)) <= labels, where


def test_every_rule_says_what_to_do() -> None:
    rules = [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
    assert len({rule["alert"] for rule in rules}) == len(rules) > 25
    for rule in rules:
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert re.fullmatch(r"\d+[mh]", rule["for"])
        assert set(rule["annotations"]) == {"summary", "description", "action"}
        assert all(len(text) > 10 for text in rule["annotations"].values())


def rule(alert: str) -> str:
    """The expression of an alert."""
    return next(expression for where, expression in EXPRESSIONS if where == alert)


def test_rules_and_health_have_one_idea_of_what_is_too_much() -> None:
    settings = load_settings(profile="test", embedder="hash")
    least = f">= {settings.health_least}"
    errors = settings.error_warn_percent / 100
    for alert, most in (
        ("MemlaneQueueOld", settings.queue_warn_s),
        ("MemlaneQueueStands", settings.queue_most_s),
        ("MemlaneRecallSlow", settings.recall_warn_ms / 1000),
        ("MemlaneErrors", errors),
        ("MemlaneErrorsMany", round(FAR * errors, 3)),
        ("MemlaneOperationsFail", errors),
        ("MemlaneMemoryHigh", settings.memory_warn_percent),
    ):
        assert re.search(rf"> {most:g}(\s|$)", rule(alert)), alert
    assert f"< {settings.cache_least_percent / 100:g} " in rule("MemlaneCacheCold")
    assert rule("MemlaneIndexMisses").strip().endswith(f"< {settings.index_recall:g}")
    for alert in ("MemlaneRecallSlow", "MemlaneErrors", "MemlaneErrorsMany", "MemlaneOperationsFail"):
        assert least in rule(alert), alert


def test_what_callers_do_wrong_is_no_alert() -> None:
    (left_out,) = re.findall(r'error!~"([^"]*)"', rule("MemlaneOperationsFail"))
    assert set(left_out.split("|")) == not_ours()


def test_commands_and_settings_in_rules_exist() -> None:
    commands: Any = typer.main.get_command(app)
    text = RULES.read_text()
    named = re.findall(r"`memlane ([a-z][^`]*)`", text)
    assert named
    for line in named:
        command = commands
        for word in line.split():
            if word.islower() and not word.startswith("-"):
                command = command.commands[word]
            elif word.startswith("--"):
                assert word in {option for parameter in command.params for option in parameter.opts}, line
    settings = (ROOT / "docs" / "reference" / "settings.md").read_text()
    assert [name for name in re.findall(r"MEMLANE_[A-Z_]+", text) if f"`{name}`" not in settings] == []


@pytest.fixture
def told(gateway: str, lane: Lane) -> str:
    """What a gateway tells after some traffic, and when a worker has said what it did."""
    accepted(lane, item("tea"))
    drain_all(lane, Kind.REMEMBER)
    measures = Measures("ingest")
    measures.operation("recall", 0.1, "NodeDown")
    measures.claim("remember", 1, 0.1, {"stored": 1})
    measures.cache("embeddings", hits=1, misses=1, dropped=1)
    measures.cache_entries("embeddings", 1)
    measures.memory(10.0, 0)
    measures.pool("node-1", {"pool_available": 1, "pool_size": 2, "requests_errors": 1})
    now = measures.now()
    processes.begin(lane.cluster.control, "host:1:a", "ingest", Report(now.gauges, now.counts))
    httpx.get(f"{gateway}/healthz")
    found: list[str] = []

    def there() -> bool:
        found.append(httpx.get(f"{gateway}/metrics", timeout=20).text)
        return 'memlane_processes{class="ingest"}' in found[-1] and 'route="/healthz"' in found[-1]

    eventually(there, 60)
    return found[-1]


def test_the_page_has_what_a_gateway_tells(told: str) -> None:
    """All of it, with its labels; and each series by its TYPE line also before anything is counted for it."""
    described = {family.name.removesuffix("_total"): family for family in families()}
    every = text_string_to_metric_families(told)
    seen = {family.name: family for family in every if not family.name.endswith("_created")}
    assert set(described) == set(seen)
    for name, family in seen.items():
        assert family.type == described[name].type
        for sample in family.samples:
            if not sample.name.endswith("_created"):
                assert set(sample.labels) == set(described[name].series[sample.name]), sample.name


def test_nodes_are_told_up_or_down(told: str) -> None:
    assert 'memlane_node_up{node="node-1"} 1.0' in told
    assert 'memlane_node_up{node="node-2"} 1.0' in told


def test_what_top_reads_is_what_processes_count() -> None:
    """It names series by itself: each of them has to be there."""
    names = set(re.findall(r'"(memlane_\w+)"', Path(live.__file__).read_text()))
    assert names
    assert names <= known().keys()
    assert {f.source for f in families() if names & f.series.keys()} == {Source.TOGETHER}


@pytest.fixture(scope="session")
def promtool() -> str:
    """Prometheus' own checker."""
    found = shutil.which("promtool")
    if found is None:
        message = "there is no promtool (Debian's package prometheus)"
        if CI:
            pytest.fail(message)
        pytest.skip(message)
    return found


@pytest.mark.parametrize(
    "arguments",
    [("check", "rules", RULES), ("check", "config", PROMETHEUS), ("test", "rules", RULE_TESTS)],
    ids=lambda arguments: " ".join(map(str, arguments[:2])),
)
def test_prometheus_takes_it(arguments: tuple[str, str, Path], promtool: str) -> None:
    *words, file = arguments
    done = subprocess.run(
        [promtool, *words, file.name], cwd=file.parent, env={**os.environ}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_rule_is_tried() -> None:
    """By a test that sees it fire."""
    rules = {rule["alert"] for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]}
    assert rules - set(re.findall(r"\bMemlane\w+", RULE_TESTS.read_text())) == set()
