"""Indexing: which agents have an index of their own, how it is built, and what is done when it misses too much.

Decisions alone; tasks/optimize.py does the work. The figures behind them are in docs/decisions/0023-indexes.md.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

SHRUNK = 0.5
"""Below this share of the size from which agents have an index, one that has it is searched exactly again."""

FAITHFUL = 1.5
"""An index that is there counts so many times as useful as one that would have to be built: no to and fro."""

LEAST_QUESTIONS = 5
"""With fewer questions, their recall says nothing."""

_PAGE_BYTES = 8168
"""What of a page of Postgres is for pgvector's tuples."""

_TUPLES_BYTES = 118
"""Headers, links and pointers of a vector's two tuples, beside its values and its neighbours."""


@dataclass(frozen=True, slots=True)
class Shape:
    """How a graph is built: neighbours of a vector, and how many are looked at to find them."""

    m: int
    ef_construction: int


SHAPES = (Shape(16, 64), Shape(16, 128), Shape(24, 200))
"""The rungs, each better, larger and slower to build than the one before."""

_FROM = ((200_000, 1), (0, 0))
"""From how many vectors on an index begins at which rung."""


def shape(vectors: int, more: int = 0) -> Shape:
    """How to build an index over so many vectors, so many rungs better than that asks for."""
    return SHAPES[min(_first(vectors) + more, len(SHAPES) - 1)]


def highest(vectors: int, more: int) -> bool:
    """Whether an index over so many vectors can be built no better."""
    return _first(vectors) + more >= len(SHAPES) - 1


def _first(vectors: int) -> int:
    return next(rung for least, rung in _FROM if vectors >= least)


def better(wanted: Shape, built: Shape) -> bool:
    """Whether one shape is above another; what was built by hand with more is left as it is."""
    return wanted.m > built.m or wanted.ef_construction > built.ef_construction


def index_bytes(vectors: int, dims: int, m: int) -> int:
    """About how large an index gets: pgvector puts whole vectors, with their neighbours, on a page."""
    on_a_page = max(1, _PAGE_BYTES // (2 * dims + 12 * m + _TUPLES_BYTES))
    return (vectors // on_a_page + 2) * 8192


@dataclass(frozen=True, slots=True)
class Claimant:
    """An agent that has, or might have, an index.

    Attributes:
        shard: the number of its shard.
        agent: its own.
        vectors: how many it has.
        asked: how often it was asked lately.
        bytes: how large its index is, or would be.
        promoted: whether it has one.
    """

    shard: int
    agent: int
    vectors: int
    asked: int
    bytes: int
    promoted: bool = False


@dataclass(frozen=True, slots=True)
class Room:
    """How many indexes a shard may have, and how many bytes they may take on a node."""

    per_shard: int
    bytes: int


def chosen(claimants: Sequence[Claimant], room: Room) -> list[Claimant]:
    """Those of a node's agents that shall have an index, the most useful first; who does not fit gives way."""
    counts: Counter[int] = Counter()
    taken, found = 0, []
    for one in sorted(claimants, key=_usefulness, reverse=True):
        if counts[one.shard] < room.per_shard and taken + one.bytes <= room.bytes:
            counts[one.shard] += 1
            taken += one.bytes
            found.append(one)
    return found


def _usefulness(one: Claimant) -> tuple[float, bool, int]:
    return one.asked * (FAITHFUL if one.promoted else 1.0), one.promoted, one.vectors


class Step(StrEnum):
    """What is done about an index, by what its canary found."""

    NOTHING = "nothing"
    LOOK_FURTHER = "look further"
    """A recall looks at more of it."""
    BUILD_BETTER = "build better"
    """It is built again, on the next rung."""
    GO_EXACT = "go exact"
    """Its agent is searched exactly."""


@dataclass(frozen=True, slots=True)
class Doing:
    """How an index is doing.

    Attributes:
        recall: recall@10 against exact search.
        questions: how many were asked for that.
        ef_search: how much of it was looked at.
        highest: whether it can be built no better.
    """

    recall: float
    questions: int
    ef_search: int
    highest: bool


def next_step(doing: Doing, wanted: float, most: int) -> tuple[Step, int]:
    """The mildest step that may help, and how much of the index is looked at from then on.

    Args:
        doing: how the index is doing.
        wanted: the recall below which something is done.
        most: how much of an index may be looked at.
    """
    if doing.questions < LEAST_QUESTIONS or doing.recall >= wanted:
        return Step.NOTHING, doing.ef_search
    if doing.ef_search < most:
        return Step.LOOK_FURTHER, min(most, doing.ef_search * 3 // 2 + 1)
    return (Step.GO_EXACT if doing.highest else Step.BUILD_BETTER), doing.ef_search
