"""What benchmarks make of their figures: goals, CPU by process, plots, flame graphs, and blocks of the docs."""

import os
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from subprocess import Popen
from time import process_time
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from memlane.bench import blocks, cpu, flames, plots
from memlane.bench.comparison import Comparison
from memlane.bench.embedding import Embedders, Speed
from memlane.bench.figures import Circumstances, Percentiles, Rate
from memlane.bench.flames import Flames, Stack
from memlane.bench.goals import Goal, Kind, goals
from memlane.bench.nearness import Nearness
from memlane.bench.publish import publish
from memlane.bench.raw import Raw
from memlane.bench.report import report
from memlane.bench.sizes import SizeFigures
from memlane.bench.sockets import encoded
from memlane.bench.structured import normal
from memlane.bench.systems import SHORT, TARGETS_MS, Row, System, Way, way_of
from memlane.contract import wire

HERE = Circumstances("1", datetime(2026, 1, 2, tzinfo=UTC), "2 cores", 2, 4.0, "Linux", "3.11", "m", {})
AT = Percentiles(2, 6, 11, 12)
SPEEDS = {"minilm": Speed(3.0, 300.0, 256, 6.0), "torch": Speed(9.0, 100.0, 32, 20.0)}


def size(memories: int, recall: float) -> SizeFigures:
    return SizeFigures(memories, memories > 20_000, replace(AT, p50=60), AT, AT, Nearness(AT, recall, 10))


def found() -> Comparison:
    ours = [
        Way("remember, 64 clients", 64, 1, 100, 100, 500.0, 1, 100, {"gateway": 0.1}),
        Way("remember_many, 4 callers", 4, 100, 1000, 1000, 4000.0, 10, 1000, {"gateway": 0.5, "Postgres": 0.25}),
    ]
    naive = [Way("one task per memory, 8 processes", 8, 1, 100, 100, 100.0, 100, 100)]
    systems = [System("memlane", {}, (), ours, {Row.STORE_ONE: AT}), System("naive_celery", {}, (), naive, {})]
    raw = Raw(Rate(20_000.0, 10), Rate(8_000.0, 10, {"client": 0.01}), Rate(300.0, 10), Embedders(SPEEDS))
    provider = {"latency_ms": 50.0, "dims": 8}
    sizes = [size(1_000, 1.0), size(100_000, 0.97)]
    return Comparison(systems, (), TARGETS_MS, SHORT, HERE, {}, provider, raw=raw, sizes_asked=sizes)


def by_name() -> Mapping[str, Goal]:
    return {goal.what: goal for goal in goals(found())}


@pytest.mark.parametrize(
    ("kind", "figure", "reached", "ratio"),
    [
        (Kind.AT_LEAST, 20.0, True, 2.0),
        (Kind.AT_LEAST, 5.0, False, 0.5),
        (Kind.AT_MOST, 10.0, True, 1.0),
        (Kind.AT_MOST, 40.0, False, 0.25),
        (Kind.AT_MOST, None, None, None),
    ],
)
def test_a_goal_is_reached_or_not_or_nobody_knows(
    kind: Kind, figure: float | None, reached: bool | None, ratio: float | None
) -> None:
    goal = Goal("what", kind, 10.0, figure, "ms")
    assert (goal.reached, goal.ratio) == (reached, ratio)


@pytest.mark.parametrize(
    ("what", "figure", "reached"),
    [
        ("batches of 100 against Celery by hand, 8 processes", 40.0, True),
        ("batches of 100 against LangGraph, batch of 100", None, None),
        ("batches of 100 against our SQL alone", 50.0, False),
        ("single remembers, 64 clients, against Celery by hand", 5.0, False),
        ("accept of one, idle, p50", 2.0, True),
        ("accept of one, idle, p99", 11.0, False),
        ("vectors alone of 100,000, promoted: of the ten nearest", 97.0, False),
        ("vectors alone of 10,000: of the ten nearest", None, None),
        ("asked again against cold, 1,000, p50", 30.0, True),
        ("minilm against sentence-transformers on torch", 3.0, True),
        ("throughput at 1,000,000 against at 10,000", None, None),
    ],
)
def test_goals_are_held_against_the_figures_of_one_run(what: str, figure: float | None, reached: bool | None) -> None:
    goal = by_name()[what]
    assert goal.figure == (None if figure is None else pytest.approx(figure))
    assert goal.reached is reached


def test_the_report_has_the_goals_and_the_cpu_of_each_kind_of_process() -> None:
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in report(found()).splitlines() if "|" in line]
    assert ["remember_many, 4 callers", "100", "0.75", "0.500", "0.250"] in rows
    assert ["batches of 100 against our SQL alone", "at least 80 %", "50 %", "0.62", "no"] in [row[:5] for row in rows]


def test_a_run_is_read_back_and_published(tmp_path: Path) -> None:
    (tmp_path / "reference").mkdir()
    page = tmp_path / "reference" / "benchmarks.md"
    page.write_text("before\n<!-- make bench: begin -->\nof last year\n<!-- make bench: end -->\nafter\n")
    publish(wire.load(Comparison, wire.dump(found())), tmp_path, "make bench")
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert "last year" not in text
    for picture in ("bench-ingest", "bench-recall"):
        assert f"assets/{picture}.svg" in text
        ET.parse(tmp_path / "assets" / f"{picture}.svg")  # noqa: S314  # we have written it
    with pytest.raises(LookupError):
        blocks.write(page, "another", "")


def test_lines_and_bars_are_small_pictures() -> None:
    lined = plots.lines("a < b", "x", "y", {"one": [(100, 3.0), (100_000, 70.0)], "two": [(100, 0.5)]})
    barred = plots.bars("a & b", "per s", {"ours: one": 10.0, "ours: many": 2_000.0, "theirs: one": 0.5})
    for picture in (lined, barred):
        assert len(picture) < 5_000
        ET.fromstring(picture)  # noqa: S314  # we have made it
    assert lined.count("<circle") == 3
    assert barred.count("<rect") == 3


def test_a_flame_graph_leaves_out_what_takes_no_time() -> None:
    stacks: dict[Stack, int] = {
        ("main (a.py:1)", "work (memlane/tasks/a.py:2)"): 900,
        ("main (a.py:1)", "rare (b.py:1)"): 1,
    }
    burning = Flames("gateway", stacks)
    drawn = flames.drawing(burning)
    ET.fromstring(drawn)  # noqa: S314  # we have made it
    assert "work" in drawn
    assert "rare" not in drawn
    ((frame, share),) = burning.top(5, "(memlane")
    assert frame.startswith("work")
    assert share == pytest.approx(900 / 901)


def test_cpu_is_counted_by_kind_with_what_a_process_has_started() -> None:
    before = cpu.taken({os.getpid(): "us"})
    child = Popen(["/bin/sh", "-c", "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done; read wait"], stdin=-1)
    try:
        assert child.pid in cpu.children(os.getpid())
        while cpu.taken({child.pid: "child"})["child"] < 0.05:
            pass
        until = process_time() + 0.05
        while process_time() < until:
            pass
        spent = cpu.since(before, cpu.taken({os.getpid(): "us", child.pid: "child"}))
        assert spent["child"] >= 0.05
        assert spent["us"] >= 0.05
    finally:
        child.communicate(b"\n")
    assert cpu.taken({child.pid: "child"}) == {"child": 0.0}


def test_a_way_is_made_of_what_was_counted_before_and_after() -> None:
    way = way_of("w", (4, 100), (200, 100), 2.0, ((1, 10), (3, 110)), ({"us": 1.0}, {"us": 1.5, "them": 0.25}))
    assert (way.searchable_per_s, way.requests, way.inputs) == (50.0, 2, 100)
    assert (way.cpu_ms(), way.cpu_ms("us"), way.cpu_ms("nobody")) == (7.5, 5.0, 0.0)


def test_a_request_is_encoded_as_it_goes_over_the_wire() -> None:
    head, _, body = encoded("http://127.0.0.1:99", "key", "/v1/x", b"{}").partition(b"\r\n\r\n")
    assert head.splitlines()[0] == b"POST /v1/x HTTP/1.1"
    assert b"host: 127.0.0.1:99" in head
    assert b"content-length: 2" in head
    assert body == b"{}"


def test_vectors_are_of_length_one() -> None:
    assert np.allclose(np.linalg.norm(normal(10), axis=1), 1.0)
