"""What a file would cost: what is kept of it, how many requests, and how long they take."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from memlane.cli.counting import counting
from memlane.cli.simulation import Prices, Simulation, Told, measured, read, simulate
from memlane.contract.cost import Latency
from memlane.contract.tokens import bound
from memlane.files import read_memories

PRICE = Prices(20_000)


@pytest.fixture
def told(tmp_path: Path) -> "Any":
    """Reads a file of these lines."""

    def go(*lines: Any) -> Told:
        path = tmp_path / "memories.jsonl"
        path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines) + "\n")
        return read(read_memories(path))

    return go


def words(texts: Sequence[str]) -> list[int]:
    return [len(text.split()) for text in texts]


def simulated(told: Told, *batches: int, prices: Prices = PRICE) -> Simulation:
    return simulate(told, batches, words, prices)


def test_a_thousand_messages_in_batches_of_twenty(told: Any) -> None:
    found = simulated(told(*({"agent": "a", "content": f"message {n}"} for n in range(1000))), 1, 20, 100, 300)
    assert [(r.batch, r.requests, r.saved_requests, r.texts, r.tokens, r.cost_micro) for r in found.rows] == [
        (1, 1000, 0, 1000, 2000, 40.0),
        (20, 50, 950, 1000, 2000, 40.0),
        (100, 10, 990, 1000, 2000, 40.0),
        (300, 4, 996, 1000, 2000, 40.0),
    ]
    assert (found.memories, found.saved_texts, found.saved_micro) == (1000, 0, 0.0)


def test_what_is_said_twice_is_kept_once_and_asked_once(told: Any) -> None:
    file = told(
        {"agent": "a", "content": "tea", "key": "k"},
        {"agent": "a", "content": "tea", "key": "k"},
        {"agent": "a", "content": "coffee", "key": "k"},
        {"agent": "b", "content": "tea", "key": "k"},
        {"agent": "a", "content": "tea"},
        {"agent": "a", "content": "green tea", "speaker": "Bob"},
        {"agent": "a", "content": "Bob: green tea", "id": "018f0000-0000-7000-8000-000000000001"},
        {"agent": "a", "content": "given", "embedding": {"model": "m", "vector": [1.0]}},
        {"agent": "a", "content": "tea", "importance": 7},
        "no json",
    )
    assert (file.duplicates, file.conflicts, file.bad) == (1, 1, 2)
    found = simulated(file, 1, 2, 100)
    assert (found.memories, found.saved_texts, found.saved_tokens) == (6, 4, 1 + 1 + 3)
    assert [(r.requests, r.texts, r.tokens) for r in found.rows] == [(2, 2, 4), (2, 2, 4), (1, 2, 4)]
    assert found.saved_micro == pytest.approx(0.1)


def test_an_empty_file_costs_nothing(told: Any) -> None:
    (row,) = simulated(told(), 20).rows
    assert (row.requests, row.texts, row.cost_micro, row.seconds) == (0, 0, 0.0, 0.0)


def latency(texts: int, mean_s: float) -> Latency:
    return Latency("m", texts, 1, mean_s)


@pytest.mark.parametrize(
    ("texts", "seconds"),
    [(1, 0.1), (2, None), (8, None), (9, 0.2), (16, 0.2), (24, 0.3), (32, 0.4), (80, 0.7), (128, 1.0), (129, None)],
)
def test_times_between_the_measured_sizes_are_interpolated(texts: int, seconds: float | None) -> None:
    points = [latency(128, 1.0), latency(16, 0.2), latency(32, 0.4)]
    if texts <= 2:
        points = [latency(1, 0.1)]
    found = measured(points, texts)
    assert found == (None if seconds is None else pytest.approx(seconds))


def test_nothing_is_measured_where_nothing_was() -> None:
    assert measured([], 1) is None


def test_times_add_up_and_what_is_not_known_is_left_out(told: Any) -> None:
    file = told(*({"agent": "a", "content": f"message {n}"} for n in range(50)))
    measured_ = [latency(16, 0.2), latency(32, 0.4)]
    some = simulated(file, 20, 50, prices=Prices(0, measured_))
    assert [row.seconds for row in some.rows] == [pytest.approx(0.25 * 2 + 0.2), None]
    rest = simulated(file, 20, 50, prices=Prices(0, measured_, 0.9))
    assert [row.seconds for row in rest.rows] == [pytest.approx(0.25 * 2 + 0.2), pytest.approx(0.9)]


def test_at_most_is_as_much_as_is_reserved() -> None:
    assert [bound(text) for text in ("", "tea", "Grün", "😀")] == [4, 7, 9, 8]
    assert counting("of somebody else").count(["tea", "Grün"]) == [7, 9]
