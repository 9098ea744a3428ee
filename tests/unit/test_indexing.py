"""Who has an index, how it is built, and what is done when it misses too much: decisions, whatever the numbers."""

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memlane.tasks.indexing import (
    SHAPES,
    Claimant,
    Doing,
    Room,
    Shape,
    Step,
    better,
    chosen,
    highest,
    index_bytes,
    next_step,
    shape,
)

CLAIMANTS = st.lists(
    st.builds(
        Claimant,
        shard=st.integers(0, 3),
        agent=st.integers(1, 10**6),
        vectors=st.integers(1, 10**6),
        asked=st.integers(0, 1000),
        bytes=st.integers(1, 1000),
        promoted=st.booleans(),
    ),
    max_size=40,
    unique_by=lambda one: (one.shard, one.agent),
)


@given(CLAIMANTS, st.integers(0, 10), st.integers(0, 5000))
def test_there_are_never_more_than_there_is_room_for(claimants: list[Claimant], per_shard: int, size: int) -> None:
    found = chosen(claimants, Room(per_shard, size))
    assert max(Counter(one.shard for one in found).values(), default=0) <= per_shard
    assert sum(one.bytes for one in found) <= size
    left = [one for one in claimants if one not in found]
    free, counts = size - sum(one.bytes for one in found), Counter(one.shard for one in found)
    assert all(one.bytes > free or counts[one.shard] == per_shard for one in left)  # nobody is left out for nothing


@given(CLAIMANTS)
def test_where_there_is_room_everybody_has_one(claimants: list[Claimant]) -> None:
    assert len(chosen(claimants, Room(100, 10**9))) == len(claimants)


def test_those_that_are_asked_more_come_first_and_what_is_there_stays_unless_another_is_much_more_useful() -> None:
    idle, busy = Claimant(0, 1, 90_000, 0, 10, promoted=True), Claimant(0, 2, 20_000, 7, 10)
    assert chosen([idle, busy], Room(1, 100)) == [busy]
    served, rival = Claimant(0, 1, 20_000, 10, 10, promoted=True), Claimant(0, 2, 20_000, 14, 10)
    assert chosen([served, rival], Room(1, 100)) == [served]
    assert chosen([served, Claimant(0, 2, 20_000, 16, 10)], Room(1, 100)) != [served]


def test_shapes_go_up_with_the_size_and_with_what_the_canary_asks_for() -> None:
    assert (shape(10_000), shape(300_000), shape(10_000, 9)) == (SHAPES[0], SHAPES[1], SHAPES[-1])
    assert all(better(above, below) for below, above in pairwise(SHAPES))
    assert not better(SHAPES[0], Shape(32, 400))
    assert (highest(10_000, 1), highest(10_000, 2), highest(300_000, 1)) == (False, True, True)


@pytest.mark.parametrize(("dims", "measured"), [(384, 1170), (1536, 4096)])
def test_the_size_of_an_index_is_about_as_measured(dims: int, measured: int) -> None:
    assert index_bytes(100_000, dims, 16) / 100_000 == pytest.approx(measured, rel=0.02)


@pytest.mark.parametrize(
    ("doing", "step"),
    [
        (Doing(0.95, 10, 200, False), (Step.NOTHING, 200)),
        (Doing(0.5, 4, 200, False), (Step.NOTHING, 200)),
        (Doing(0.94, 10, 200, False), (Step.LOOK_FURTHER, 301)),
        (Doing(0.94, 10, 700, True), (Step.LOOK_FURTHER, 800)),
        (Doing(0.94, 10, 800, False), (Step.BUILD_BETTER, 800)),
        (Doing(0.94, 10, 800, True), (Step.GO_EXACT, 800)),
    ],
)
def test_the_mildest_step_comes_first(doing: Doing, step: tuple[Step, int]) -> None:
    assert next_step(doing, 0.95, 800) == step
