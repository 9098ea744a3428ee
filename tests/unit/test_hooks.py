"""Hooks: brackets in the order of priorities, and nothing that one of them does harms the operation or another."""

import re
import sys
import tomllib
from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from structlog.testing import capture_logs

from memlane.config.settings import Settings, load_settings
from memlane.errors import Misconfigured, NodeDown
from memlane.storage.jobs import Kind
from memlane.tasks.hooks import Hooks, Operation, found, hookimpl, load_hooks
from memlane.tasks.hooks import hooks as hooks_module
from memlane.tasks.hooks.naming import error_name
from memlane.tasks.measures import Measures
from memlane.tasks.producers import TASKS
from memlane.tasks.rates import TooManyAtOnce
from tests.support import eventually

ROOT = Path(__file__).parents[2]
SHIPPED = {"dogstatsd", "opentelemetry", "sentry"}


class Noting:
    """Notes what it is told, and raises where it is told to."""

    def __init__(self, name: str, notes: list[str], priority: int = 0, raises: str | None = None) -> None:
        self.name, self.notes, self.priority, self.raises = name, notes, priority, raises

    def note(self, moment: str) -> None:
        self.notes.append(f"{self.name}.{moment}")
        if self.raises == moment:
            raise RuntimeError("the plugin is broken")

    @hookimpl
    def before(self, operation: Operation) -> None:
        assert operation.name == "recall"
        self.note("before")

    @hookimpl
    def after(self, seconds: float) -> None:
        assert seconds >= 0
        self.note("after")

    @hookimpl
    def on_error(self, error: BaseException, operation: Operation) -> None:
        self.note(f"on_error:{type(error).__name__}:{operation.name}")
        if self.raises == "on_error":
            raise RuntimeError("the plugin is broken")

    @hookimpl
    def close(self) -> None:
        self.note("close")


def run(hooks: Hooks, error: BaseException | None = None) -> None:
    with hooks.around(Operation("recall")):
        if error is not None:
            raise error


def test_brackets_by_priority() -> None:
    notes: list[str] = []
    hooks = Hooks({"b": Noting("b", notes), "c": Noting("c", notes, 5), "a": Noting("a", notes, -1)})
    assert hooks.names == ["a", "b", "c"]
    run(hooks)
    assert notes == ["a.before", "b.before", "c.before", "c.after", "b.after", "a.after"]


@pytest.mark.parametrize("error", [NodeDown("down"), KeyError("x"), SystemExit(1), KeyboardInterrupt()], ids=repr)
def test_an_error_passes_through_and_is_told(error: BaseException) -> None:
    notes: list[str] = []
    hooks = Hooks({"a": Noting("a", notes), "b": Noting("b", notes)})
    with pytest.raises(type(error)) as raised:
        run(hooks, error)
    assert raised.value is error
    name = type(error).__name__
    assert notes[2:] == [f"b.on_error:{name}:recall", f"a.on_error:{name}:recall"]


def test_an_error_that_is_handled_inside_is_told_too() -> None:
    notes: list[str] = []
    with Hooks({"a": Noting("a", notes)}).around(Operation("recall")) as underway:
        underway.failed(ValueError("handled"))
    assert notes == ["a.before", "a.on_error:ValueError:recall"]


@pytest.mark.parametrize(
    ("raises", "left"),
    [
        ("before", ["b.before", "c.before", "c.after", "a.after"]),
        ("after", ["b.before", "c.before", "c.after", "b.after", "a.after"]),
    ],
)
def test_a_hook_that_raises_harms_nobody(raises: str, left: list[str]) -> None:
    """One that raised in `before` has not begun, so it does not hear of the end either."""
    notes: list[str] = []
    plugins = {"a": Noting("a", notes), "b": Noting("b", notes, 1, raises), "c": Noting("c", notes, 2)}
    hooks = Hooks(plugins)
    run(hooks)
    assert notes == ["a.before", *left]
    assert hooks.failures == {f"b.{raises}": 1}


def test_a_hook_that_raises_on_an_error_does_not_hide_it() -> None:
    notes: list[str] = []
    hooks = Hooks({"a": Noting("a", notes), "b": Noting("b", notes, 1, "on_error")})
    with pytest.raises(NodeDown, match="down"):
        run(hooks, NodeDown("down"))
    assert notes[-1] == "a.on_error:NodeDown:recall"
    assert hooks.failures == {"b.on_error": 1}


def test_a_failing_hook_is_logged_once_until_it_works_again() -> None:
    plugin = Noting("a", [], raises="before")
    hooks = Hooks({"a": plugin})
    with capture_logs() as logs:
        for raises in ("before", "before", "before", None, None, "before", "before"):
            plugin.raises = raises
            run(hooks)
    assert [(line["event"], line.get("failures")) for line in logs if line["log_level"] != "debug"] == [
        ("hook.failed", None),
        ("hook.works_again", 3),
        ("hook.failed", None),
    ]
    assert hooks.failures == {"a.before": 5}


def test_whoever_has_begun_hears_of_the_end_when_a_hook_ends_the_process() -> None:
    notes: list[str] = []

    class Ending:
        priority = 1

        @hookimpl
        def before(self) -> None:
            raise SystemExit(3)

    hooks = Hooks({"a": Noting("a", notes), "ending": Ending()})
    with pytest.raises(SystemExit):
        run(hooks)
    assert notes == ["a.before", "a.on_error:SystemExit:recall"]


def test_what_a_plugin_may_not_have_is_refused() -> None:
    class Wrapper:
        @hookimpl(wrapper=True)
        def before(self) -> Any:
            yield

    class Other:
        @hookimpl
        def after(self, content: str) -> None: ...

    hooks = Hooks()
    for plugin, error in ((Wrapper(), TypeError), (Other(), Exception)):
        with pytest.raises(error):
            hooks.add("it", plugin)
        assert hooks.names == []
    run(hooks)


def test_the_end_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hooks_module, "_FAREWELL_S", 0.1)
    notes: list[str] = []
    gate = Event()

    class Slow:
        @hookimpl
        def close(self) -> None:
            gate.wait(60)

    hooks = Hooks({"slow": Slow(), "a": Noting("a", notes)})
    with capture_logs() as logs:
        hooks.close()
    gate.set()
    assert [line["hook"] for line in logs if line["event"] == "hook.left_behind"] == ["slow.close"]
    assert notes == ["a.close"]
    run(hooks)
    assert notes == ["a.close"], "after the end nobody is told anything"


def test_errors_have_few_names() -> None:
    assert error_name(NodeDown("x")) == "NodeDown"
    assert error_name(TooManyAtOnce([], limit="agent")) == "InvalidInput"
    assert error_name(KeyError("x")) == error_name(SystemExit()) == "other"
    assert error_name(type("NodeDown", (Exception,), {})()) == "other"


# --- finding them ------------------------------------------------------------------------------

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Puts a package with a plugin where Python finds it: its module, and what an installer would write."""
    monkeypatch.syspath_prepend(str(tmp_path))
    made: list[str] = []

    def build(name: str, source: str, target: str = "make") -> None:
        module = f"plugin_of_test_{name}"
        (tmp_path / f"{module}.py").write_text(source)
        folder = tmp_path / f"{module}-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
        (folder / "entry_points.txt").write_text(f"[memlane.hooks]\n{name} = {module}:{target}\n")
        made.append(module)

    yield build
    for module in made:
        sys.modules.pop(module, None)


PLUGIN = """
from memlane.tasks.hooks import hookimpl
seen = []
class Plugin:
    @hookimpl
    def after(self, operation): seen.append(operation.name)
def make(settings): return Plugin()
"""


def loaded(settings: Settings) -> Hooks:
    return load_hooks(settings, Measures("test"))


def settings(**more: object) -> Settings:
    return load_settings(profile="test", **more)


def test_a_plugin_is_found_by_its_entry_point(install: Install) -> None:
    install("third", PLUGIN)
    hooks = loaded(settings())
    assert set(hooks.names) == {"prometheus", "third"}
    run(hooks)
    assert sys.modules["plugin_of_test_third"].seen == ["recall"]
    assert loaded(settings(hooks_off=("third", "prometheus"))).names == []


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("raise RuntimeError('no')", "make"),
        ("import no_such_module_at_all", "make"),
        ("import sys; sys.exit(3)", "make"),
        (PLUGIN, "no_such_name"),
        ("def make(settings): raise ValueError('no')", "make"),
        ("def make(settings): raise SystemExit(3)", "make"),
        ("def make(): pass", "make"),
        ("this is no Python", "make"),
        (PLUGIN.replace("self, operation", "self, content, operation"), "make"),
    ],
)
def test_a_broken_plugin_costs_a_line_in_the_log(install: Install, source: str, target: str) -> None:
    install("broken", source, target)
    install("whole", PLUGIN)
    with capture_logs() as logs:
        hooks = loaded(settings())
    assert set(hooks.names) == {"prometheus", "whole"}
    assert [(line["event"], line["hook"]) for line in logs] == [("hook.off", "broken")]
    run(hooks)


def test_a_slow_plugin_comes_later(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(found, "_PATIENCE_S", 0.2)
    install("slow", f"from threading import Event\ngate = Event()\n{PLUGIN}".replace("return", "gate.wait(60); return"))
    with capture_logs() as logs:
        hooks = loaded(settings())
    assert "slow" not in hooks.names
    assert ("hook.late", "slow") in [(line["event"], line["hook"]) for line in logs]
    run(hooks)
    sys.modules["plugin_of_test_slow"].gate.set()
    eventually(lambda: "slow" in hooks.names)
    run(hooks)
    assert sys.modules["plugin_of_test_slow"].seen == ["recall"]


def test_failures_are_counted_among_the_series(install: Install) -> None:
    install("bad", PLUGIN.replace("seen.append(operation.name)", "1 / 0"))
    measures = Measures("test")
    hooks = load_hooks(settings(), measures)
    for _ in range(3):
        run(hooks)
    assert measures.registry.get_sample_value("memlane_hook_failures_total", {"hook": "bad.after"}) == 3
    assert measures.registry.get_sample_value("memlane_operation_seconds_count", {"operation": "recall"}) == 3


def test_the_example_in_the_docs(
    install: Install, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    page = (ROOT / "docs" / "howto" / "hooks.md").read_text()
    (example,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    install("slow", example)
    hooks = loaded(settings(hooks_off=("prometheus",)))
    clock = iter([0.0, 0.5, 10.0, 11.5])
    monkeypatch.setattr(hooks_module, "perf_counter", lambda: next(clock))
    for _ in range(2):
        run(hooks)
    assert [record.getMessage() for record in caplog.records if record.name == "slow"] == ["recall took 1.5 s"]


def test_the_docs_name_the_operations() -> None:
    page = (ROOT / "docs" / "howto" / "hooks.md").read_text()
    named = set(re.findall(r"`([a-z_.]+)`", page.split("## Operations")[1].split("##")[0]))
    assert {*TASKS, *(f"drain.{kind}" for kind in Kind), "beat.sweep", "embed", "recall"} <= named


def test_ours_are_installed_as_declared() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["memlane.hooks"]
    assert {point.name: point.value for point in entry_points(group=found.GROUP)} == declared
    assert set(declared) == SHIPPED


@pytest.mark.parametrize(
    ("library", "setting", "hook"),
    [
        ("datadog.dogstatsd.base", {"statsd_url": "udp://127.0.0.1:1"}, "dogstatsd"),
        (
            "opentelemetry.exporter.otlp.proto.http.trace_exporter",
            {"otel_endpoint": "http://127.0.0.1:1"},
            "opentelemetry",
        ),
    ],
)
def test_a_missing_library_is_said(
    monkeypatch: pytest.MonkeyPatch, library: str, setting: dict[str, object], hook: str
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with capture_logs() as logs:
        hooks = loaded(settings(**setting))
    assert hooks.names == ["prometheus"]
    ((line),) = logs
    assert (line["event"], line["hook"]) == ("hook.off", hook)
    assert f"memlane[{'datadog' if hook == 'dogstatsd' else hook}]" in line["why"]


@pytest.mark.parametrize("url", ["udp://", "tcp://127.0.0.1:1", "127.0.0.1:8125", "udp://a:b", "unix://", "unix:x"])
def test_an_address_of_an_agent_is_checked(url: str) -> None:
    with pytest.raises(Misconfigured, match="MEMLANE_STATSD_URL"):
        settings(statsd_url=url)


def test_the_standard_variable_names_the_collector(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318")
    endpoint = settings().otel_endpoint
    assert endpoint is not None
    assert endpoint.get_secret_value() == "http://collector:4318"
