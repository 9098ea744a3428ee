"""Ages: up to which number memories are warm or cold, by shard, as it was a moment ago."""

from threading import Lock

from cachetools import TTLCache

from memlane.contract.tiers import HOT, WARM
from memlane.storage import moments
from memlane.storage.cluster import Shard
from memlane.storage.recall import Ages

_EVERY_S = 60.0
"""How long what a shard said is believed: short beside the ages that are told apart."""

_SHARDS = 256


class KnownAges:
    """The ages of memories by their numbers, for one process."""

    def __init__(self) -> None:
        self._known: TTLCache[int, Ages] = TTLCache(_SHARDS, _EVERY_S)
        self._lock = Lock()

    def of(self, shard: Shard) -> Ages:
        """The ages in a shard.

        Raises:
            NodeDown: it does not answer, and nobody has asked it lately.
        """
        with self._lock:
            found = self._known.get(shard.number)
        if found is None:
            found = Ages(*moments.numbers_at(shard, [HOT.total_seconds(), WARM.total_seconds()]))
            with self._lock:
                self._known[shard.number] = found
        return found
