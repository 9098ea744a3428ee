"""The first level: what this process keeps, bounded in entries and bytes, each for a time."""

from collections.abc import Hashable
from dataclasses import dataclass
from threading import Lock
from time import monotonic
from typing import Generic, TypeVar

from cachetools import Cache, LFUCache, LRUCache

from memlane.config.caching import CachePolicy

V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Room:
    """How much is kept, and for how long.

    Attributes:
        entries: how many; 0: nothing is kept.
        size_bytes: what they hold together.
        ttl_s: how long each is kept at most.
        idle_s: how long one that nobody asks for.
        policy: what goes where there is no room.
    """

    entries: int
    size_bytes: int
    ttl_s: float
    idle_s: float
    policy: CachePolicy = CachePolicy.LRU


@dataclass(slots=True)
class _Entry(Generic[V]):
    value: V
    size_bytes: int
    kept_at: float
    used_at: float


@dataclass(frozen=True, slots=True)
class Held:
    """What is kept now: how many, what they hold, and how many had to go for want of room so far."""

    entries: int
    size_bytes: int
    evicted: int


class LocalCache(Generic[V]):
    """Values by key; may be asked from any thread."""

    def __init__(self, room: Room) -> None:
        self._room = room
        kind = LFUCache if room.policy is CachePolicy.LFU else LRUCache
        self._entries: Cache[Hashable, _Entry[V]] = kind(room.size_bytes, getsizeof=lambda entry: entry.size_bytes)
        self._evicted = 0
        self._lock = Lock()

    def get(self, key: Hashable) -> V | None:
        """A value that is still kept."""
        now = monotonic()
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                return None
            if now - entry.kept_at >= self._room.ttl_s or now - entry.used_at >= self._room.idle_s:
                del self._entries[key]
                return None
            entry.used_at = now
            return entry.value

    def put(self, key: Hashable, value: V, size_bytes: int) -> None:
        """Keep a value, unless it alone is larger than a tenth of all that may be kept."""
        if not self._room.entries or size_bytes > self._room.size_bytes // 10:
            return
        now = monotonic()
        with self._lock:
            self._entries.pop(key, None)
            while self._entries and self._full(size_bytes):
                self._entries.popitem()
                self._evicted += 1
            self._entries[key] = _Entry(value, size_bytes, now, now)

    def _full(self, more_bytes: int) -> bool:
        held = self._entries
        return len(held) >= self._room.entries or held.currsize + more_bytes > held.maxsize

    def clear(self) -> None:
        """Keep nothing."""
        with self._lock:
            self._entries.clear()

    def held(self) -> Held:
        """What is kept now, also what nobody has asked for since its time was over."""
        with self._lock:
            return Held(len(self._entries), int(self._entries.currsize), self._evicted)
