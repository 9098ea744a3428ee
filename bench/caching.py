"""Caches, level by level: how many values a second one caller puts there, and gets."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter

from memlane.bench.bare import Bare, lane_of
from memlane.bench.output import Progress
from memlane.bench.structured import normal
from memlane.storage import embedding_cache
from memlane.storage.embedding_cache import Cached, Text
from memlane.storage.hashing import text_hash
from memlane.tasks.lane import Lane

_TENANT = "bench"


@dataclass(frozen=True, slots=True)
class Level:
    """What a level does for one caller, one value after the other.

    Attributes:
        name: of the level, and what is kept there.
        puts_per_s: values that are kept.
        gets_per_s: values that are found.
        count: of each.
    """

    name: str
    puts_per_s: float
    gets_per_s: float
    count: int


@dataclass(frozen=True, slots=True)
class _Calls:
    """How a level is called with a number, which stands for a key."""

    name: str
    put: Callable[[int], object]
    get: Callable[[int], object]


def measure(here: Bare, count: int, progress: Progress) -> list[Level]:
    """Put so many values into each level, and get each of them."""
    with here.cluster("caches", shard_count=2) as settings, lane_of(settings) as lane:
        lane.cluster.begin()
        found = []
        with _levels(here, lane) as levels:
            for calls in levels:
                found.append(Level(calls.name, _per_s(calls.put, count), _per_s(calls.get, count), count))
                progress(f"{calls.name}: {found[-1].gets_per_s:,.0f} gets/s, {found[-1].puts_per_s:,.0f} puts/s")
        return found


def _per_s(call: Callable[[int], object], count: int) -> float:
    begun = perf_counter()
    for number in range(count):
        if call(number) is False:
            raise LookupError("a cache does not know what was put there")
    return round(count / (perf_counter() - begun), 1)


@contextmanager
def _levels(_here: Bare, lane: Lane) -> Iterator[list[_Calls]]:
    """The levels, from the farthest to the nearest."""
    yield [_postgres(lane)]


def _postgres(lane: Lane) -> _Calls:
    (vector,) = normal(1)
    cluster, model = lane.cluster, lane.model.name

    def name(number: int) -> Text:
        return Text(_TENANT, text_hash(str(number)))

    return _Calls(
        "Postgres: a vector",
        lambda number: embedding_cache.keep(cluster, model, {name(number): Cached(vector)}),
        lambda number: bool(embedding_cache.find(cluster, model, [name(number)])),
    )
