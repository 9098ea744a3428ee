"""Caches as an operator sees them: of what use each level is, and what it holds."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CacheStatus:
    """One level of a cache, in all processes together since they began to count.

    Attributes:
        cache: what it knows: `recalls`, `lists`, or `vectors` of questions.
        level: where: `process`, `redis`, or `similar` for the answers to similar questions.
        hits: how often it knew what it was asked.
        misses: how often it did not.
        hit_rate: the share of hits, 0 to 1.
        entries: how many it holds now; of processes alone.
        size_bytes: what these hold; of processes alone.
        evicted: how many had to go for others; of processes alone.
        age_s: how old answers were that it knew, in the mean and of all levels; 0 for vectors.
    """

    cache: str
    level: str
    hits: float
    misses: float
    hit_rate: float
    entries: float | None = None
    size_bytes: float | None = None
    evicted: float | None = None
    age_s: float = 0.0


@dataclass(frozen=True, slots=True)
class CachesCleared:
    """What no cache knows any more: of how many agents; missing where it is of all."""

    agents: int | None = None
