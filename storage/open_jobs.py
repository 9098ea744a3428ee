"""How many jobs of a tenant are open: as the shards said a moment ago, and what this process has taken in since."""

from collections import Counter
from collections.abc import Callable, Mapping
from threading import Lock

from memlane.storage.looks import Look

EVERY_S = 2.0
"""How often the shards are asked, once somebody hands memories over for a tenant that has a cap."""

Count = Callable[[], Mapping[int, Mapping[str, int] | None]]
"""Counts open jobs by shard and tenant; None for a shard that does not answer."""


class OpenJobs:
    """Open jobs of tenants that have a cap, for one process.

    What other processes have taken in since the last look is not known, nor is what was finished since.

    Args:
        count: asks the shards.
    """

    def __init__(self, count: Count) -> None:
        self._count = count
        self._look: Look[None] = Look("open jobs", self._read, EVERY_S, None)
        self._lock = Lock()
        self._by_shard: dict[int, Mapping[str, int]] = {}
        self._open: Counter[str] = Counter()
        self._taken: Counter[str] = Counter()
        """What was taken in before the look that is under way began, or since the last that went well."""
        self._since: Counter[str] = Counter()
        """What was taken in after that."""

    def take(self, tenant: str, cap: int, wanted: int, *, all_or_none: bool = False) -> int:
        """Take jobs in, as many as there is room for; how many."""
        _ = self._look.value
        with self._lock:
            room = max(0, cap - self._open[tenant] - self._taken[tenant] - self._since[tenant])
            granted = wanted if wanted <= room else 0 if all_or_none else room
            self._since[tenant] += granted
        return granted

    def give_back(self, tenant: str, count: int) -> None:
        """Some of what was taken in did not become jobs after all."""
        with self._lock:
            self._since[tenant] -= count

    def close(self) -> None:
        """Ask no more."""
        self._look.close()

    def _read(self) -> None:
        with self._lock:
            self._taken += self._since
            self._since = Counter()
        found = self._count()
        with self._lock:
            self._by_shard |= {shard: counts for shard, counts in found.items() if counts is not None}
            self._open = sum(map(Counter, self._by_shard.values()), Counter())
            self._taken = Counter()
