"""The throttle: levels by what is held, what is done about it, and where that is read."""

import os
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import billiard
import billiard.pool
import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from memlane.config.celery import celery_config
from memlane.config.settings import Settings, load_settings
from memlane.errors import Misconfigured
from memlane.tasks.memory import Container, Gauge, Use, container, give_back, held_of
from memlane.workers.throttle import EASE, MIB, Level, Marks, Throttle, recycle

PERCENTS = st.floats(0, 200, allow_nan=False)
LEVELS = st.sampled_from(list(Level))
MARKS = st.tuples(st.integers(20, 99), st.integers(21, 100)).filter(lambda pair: pair[0] < pair[1])


@given(MARKS, LEVELS, PERCENTS)
def test_it_holds_beyond_a_mark_and_not_well_below_it(pair: tuple[int, int], before: Level, percent: float) -> None:
    marks = Marks(*pair)
    level = marks.after(before, percent)
    if percent >= marks.stop:
        assert level is Level.NONE
    elif percent >= marks.warn:
        assert level is not Level.ALL
    if percent < marks.stop - EASE:
        assert level is not Level.NONE
    if percent < marks.warn - EASE:
        assert level is Level.ALL
    assert marks.after(level, percent) is level, "it has settled"


@given(MARKS, LEVELS, LEVELS, PERCENTS, PERCENTS)
def test_who_holds_more_never_claims_more(
    pair: tuple[int, int], one: Level, other: Level, little: float, much: float
) -> None:
    marks = Marks(*pair)
    little, much = sorted((little, much))
    one, other = sorted((one, other))
    assert marks.after(one, little) <= marks.after(other, much)


@given(MARKS, LEVELS, st.floats(0, 110), st.lists(st.floats(0, EASE - 0.1), max_size=50))
def test_nobody_goes_back_and_forth_within_the_ease(
    pair: tuple[int, int], level: Level, base: float, swings: list[float]
) -> None:
    """Between percentages that lie closer together than the ease, it goes up or down, not both."""
    seen = [level := Marks(*pair).after(level, base + swing) for swing in swings]
    assert not (any(a < b for a, b in pairwise(seen)) and any(a > b for a, b in pairwise(seen)))


class Held:
    """What is held, as a test says; cleaning leaves what it says."""

    def __init__(self, own: float = 10, around: float = 10) -> None:
        self.now = Use(own, around)
        self.after_cleaning: Use | None = None
        self.done: list[str] = []

    def throttle(self, settings: Settings) -> Throttle:
        made = Throttle(settings, lambda: self.done.append("caches"), lambda: self.now, self._clean)
        made.may_end = True
        return made

    def _clean(self) -> None:
        self.done.append("clean")
        self.now = self.after_cleaning or self.now


@pytest.fixture
def held() -> Held:
    return Held()


def test_it_cleans_up_before_it_claims_nothing(held: Held) -> None:
    throttle = held.throttle(Settings())
    assert throttle.ask() is Level.ALL
    held.now = Use(82, 10)
    assert (throttle.ask(), held.done) == (Level.FEW, [])
    held.now, held.after_cleaning = Use(96, 10), Use(60, 10)
    assert throttle.ask() is Level.ALL
    assert held.done == ["caches", "clean"]
    assert not throttle.ends


def test_what_cannot_be_given_back_ends_the_process_that_holds_it(held: Held) -> None:
    throttle = held.throttle(Settings())
    held.now = Use(96, 10)
    assert throttle.ask() is throttle.ask() is Level.NONE
    assert held.done == ["caches", "clean"], "once in a while"
    assert throttle.ends
    throttle.may_end = False
    assert not throttle.ends


@pytest.mark.parametrize(("own", "ends"), [(12, False), (30, True)])
def test_a_full_machine_ends_a_process_that_has_grown_and_no_other(held: Held, own: float, ends: bool) -> None:
    throttle = held.throttle(Settings())
    held.now = Use(own, 97)
    assert throttle.ask() is Level.NONE
    assert throttle.ends is ends
    held.now = Use(own, 86)
    assert throttle.ask() is Level.NONE, "not yet ten less"
    held.now = Use(own, 84)
    assert throttle.ask() is Level.FEW
    assert not throttle.ends


def test_around_a_process_is_its_container_or_the_machine(tmp_path: Path) -> None:
    (tmp_path / "used").write_text("60")
    (tmp_path / "stat").write_text("inactive_file 10\n")
    assert held_of(Container(200, tmp_path / "used", tmp_path / "stat", "inactive_file")) == 25
    assert 0 < held_of(None) <= 100


def test_a_limit_that_leaves_no_room_is_raised() -> None:
    with capture_logs() as logs:
        gauge = Gauge(1 * MIB)
    assert 70 < gauge.use().own < 80
    assert [line["event"] for line in logs] == ["memory.limit_too_small"]


def test_levels_are_said_when_they_change(held: Held) -> None:
    throttle = held.throttle(Settings())
    with capture_logs() as logs:
        for own in (82, 83, 79, 60, 60):
            held.now = Use(own, 10)
            throttle.ask()
    assert [(line["claims"], line["own"]) for line in logs] == [("few", 82), ("all", 60)]


def test_billiard_asks_for_what_it_is_given(held: Held, monkeypatch: pytest.MonkeyPatch) -> None:
    """That its pool still looks a name up that we set is held by tests/faults/test_flood.py as well."""
    settings = Settings()
    monkeypatch.setattr(billiard.pool, "mem_rss", original := billiard.pool.mem_rss)
    throttle = held.throttle(settings)
    throttle.may_end = False
    recycle(throttle, settings)
    assert billiard.pool.mem_rss is original, "this is no child of a pool"
    monkeypatch.setattr(billiard, "current_process", lambda: type("Child", (), {"daemon": True}))
    recycle(throttle, settings)
    limit_kb = celery_config(settings)["worker_max_memory_per_child"]
    assert 0 < billiard.pool.mem_rss() < limit_kb
    held.now = Use(99, 10)
    assert billiard.pool.mem_rss() > limit_kb


def test_what_this_process_holds_is_measured() -> None:
    gauge = Gauge(10_000 * MIB)
    before = gauge.use().own
    ballast = os.urandom(100 * MIB)
    assert before + 0.8 < gauge.use().own < before + 2
    del ballast
    give_back()
    assert gauge.use().own < before + 0.8


@pytest.fixture
def groups(tmp_path: Path) -> Callable[..., Path]:
    """Writes files of control groups as they are mounted."""

    def build(**files: object) -> Path:
        for name, text in files.items():
            path = tmp_path / name.replace("__", "/").replace("_dot_", ".")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{text}\n")
        return tmp_path

    return build


def test_the_smallest_limit_of_a_container_counts(groups: Callable[..., Path]) -> None:
    root = groups(
        own="0::/outer/inner",
        outer__memory_dot_max=200 * MIB,
        outer__memory_dot_current=150 * MIB,
        outer__memory_dot_stat=f"anon 1\ninactive_file {50 * MIB}",
        outer__inner__memory_dot_max="max",
    )
    found = container(root / "own", root)
    assert found is not None
    assert found.percent() == 50


def test_a_container_sees_its_own_group_at_the_root(groups: Callable[..., Path]) -> None:
    """Version 1: its path is the host's, and not there."""
    root = groups(
        own="4:cpu,memory:/docker/0123\n0::/",
        memory__memory_dot_limit_in_bytes=100 * MIB,
        memory__memory_dot_usage_in_bytes=90 * MIB,
        memory__memory_dot_stat=f"total_inactive_file {10 * MIB}",
    )
    found = container(root / "own", root)
    assert found is not None
    assert found.percent() == 80


def test_without_a_limit_there_is_no_container(groups: Callable[..., Path], tmp_path: Path) -> None:
    root = groups(own="4:memory:/\n0::/", memory__memory_dot_limit_in_bytes=2**63 - 4096, memory_dot_max="max")
    assert container(root / "own", root) is None
    assert container(tmp_path / "nowhere", root) is None


def test_a_container_that_is_gone_is_not_full(tmp_path: Path) -> None:
    assert 0 < Container(1, tmp_path / "gone", tmp_path / "gone", "x").percent() < 100


@pytest.mark.parametrize(
    "wrong",
    [
        {"child_memory_mb": 10},
        {"memory_warn_percent": 10},
        {"memory_stop_percent": 101},
        {"memory_warn_percent": 90, "memory_stop_percent": 90},
    ],
)
def test_settings_that_make_no_sense(wrong: dict[str, object]) -> None:
    with pytest.raises(Misconfigured, match=f"(?i){next(iter(wrong))}"):
        load_settings(**wrong)
