"""How large caches are and for how long they know something: presets, each of whose parts may be set alone."""

from dataclasses import dataclass
from enum import StrEnum


class CachePreset(StrEnum):
    """What caches are made for."""

    BALANCED = "balanced"
    """A gateway that shares its machine with others."""
    HIGH_TRAFFIC = "high-traffic"
    """Many agents that are asked again and again, on machines with memory to spare."""
    SMALL = "small"
    """Little memory: what was asked just now."""
    NONE = "none"
    """Nothing is kept but the vectors in Postgres."""


class CachePolicy(StrEnum):
    """What goes where there is no room."""

    LRU = "lru"
    """What was not of use for longest."""
    LFU = "lfu"
    """What was of use least often."""


@dataclass(frozen=True, slots=True)
class CacheSizes:
    """How much a process keeps, and for how long; nothing where there are no entries.

    Attributes:
        entries: answers of each kind, recalls and lists.
        mb: what each kind may hold, in MiB.
        ttl_s: how long an answer is given again at most.
        idle_s: how long one is kept that nobody asks for.
        questions: vectors of questions.
        question_ttl_s: how long these are kept.
    """

    entries: int
    mb: int
    ttl_s: float
    idle_s: float
    questions: int
    question_ttl_s: float


PRESETS = {
    CachePreset.BALANCED: CacheSizes(5_000, 64, 60.0, 30.0, 10_000, 600.0),
    CachePreset.HIGH_TRAFFIC: CacheSizes(50_000, 512, 300.0, 120.0, 100_000, 3600.0),
    CachePreset.SMALL: CacheSizes(500, 8, 30.0, 15.0, 1_000, 300.0),
    CachePreset.NONE: CacheSizes(0, 0, 1.0, 1.0, 0, 1.0),
}
