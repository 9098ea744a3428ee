"""Caches, level by level: how many values a second one caller puts there, and gets."""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import islice
from time import perf_counter

from memlane.bench.bare import Bare, lane_of
from memlane.bench.output import Progress
from memlane.bench.structured import normal
from memlane.bench.texts import fresh_texts
from memlane.config.caching import PRESETS, CachePreset
from memlane.storage import embedding_cache
from memlane.storage.embedding_cache import Cached, Text
from memlane.storage.hashing import text_hash
from memlane.tasks.caches.local import LocalCache, Room
from memlane.tasks.caches.shared import SharedCache
from memlane.tasks.lane import Lane

_TENANT = "bench"
_DATABASE = 4
_AGENTS = 100
_ANSWER = "\n".join(islice(fresh_texts(1), 30)).encode()
"""As large as a recall of ten hits."""


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
def _levels(here: Bare, lane: Lane) -> Iterator[list[_Calls]]:
    """The levels, from the farthest to the nearest."""
    sizes, compress_bytes = PRESETS[CachePreset.BALANCED], lane.settings.cache_compress_bytes
    with closing(SharedCache(here.redis.uri(_DATABASE), sizes.ttl_s, sizes.question_ttl_s, compress_bytes)) as shared:
        room = Room(sizes.entries, sizes.mb * 1024 * 1024, sizes.ttl_s, sizes.idle_s)
        yield [_postgres(lane), _redis(shared), _process(LocalCache[bytes](room))]


def _redis(shared: SharedCache) -> _Calls:
    return _Calls(
        f"Redis: an answer of {len(_ANSWER) // 1024} KiB, compressed",
        lambda number: shared.keep_answer(0, number % _AGENTS, str(number).encode(), _ANSWER),
        lambda number: shared.answer(0, number % _AGENTS, str(number).encode()) is not None,
    )


def _process(cache: LocalCache[bytes]) -> _Calls:
    return _Calls(
        "process: the same answer",
        lambda number: cache.put(number, _ANSWER, len(_ANSWER)),
        lambda number: cache.get(number) is not None,
    )


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
