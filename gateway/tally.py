"""The tally: what is counted off the request's path, and written together once a second."""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from math import inf
from time import monotonic

import structlog

from memlane.contract import Event
from memlane.errors import MemlaneError
from memlane.gateway.query_log import Noted, QueryLog
from memlane.gateway.threads import LOOK_S, NodeThreads
from memlane.storage import asked, embedding_cache, ledger, memories, tenants
from memlane.storage.cluster import Cluster, Shard
from memlane.storage.embedding_cache import Cached, Text
from memlane.tasks.lane import Lane

log = structlog.get_logger(__name__)

_EVERY_S = 1.0

_KEY_EVERY_S = 60.0
"""How often the use of one key is noted at most."""

_MOST_KEYS = 10_000
"""How many keys' last use is remembered at most."""

_MOST_VECTORS = 1000
"""How many vectors of questions wait at most for being put into the cache."""


class Tally:
    """Counts accesses to memories, items that were refused before they came to a shard, and which keys are used.

    Questions are logged, and their vectors kept, in the same way.

    What a process had not written when it was killed is lost: these counts guide, they do not prove.
    """

    def __init__(self, lane: Lane, threads: NodeThreads) -> None:
        self._lane = lane
        self._threads = threads
        self._accesses: Counter[tuple[int, int, int]] = Counter()
        self._rejected: Counter[str] = Counter()
        self._used: set[str] = set()
        self._used_at: dict[str, float] = {}
        self.log = QueryLog(lane.settings, lane.measures)
        """Takes the questions that were answered."""
        self._vectors: dict[Text, Cached] = {}

    def accessed(self, shard: int, accesses: Mapping[tuple[int, int], int]) -> None:
        """Memories were recalled: agent's number and memory's number to how often."""
        self._accesses.update({(shard, *key): count for key, count in accesses.items()})

    def rejected(self, tenant: str, count: int) -> None:
        """Items of a tenant were refused."""
        if count:
            self._rejected[tenant] += count

    def embedded(self, question: Text, made: Cached) -> None:
        """The vector of a question is known now, and was not before; what there is no room for is let go."""
        if len(self._vectors) < _MOST_VECTORS:
            self._vectors[question] = made

    def used(self, prefix: str) -> None:
        """A key was used; it is noted once a minute, whether that could be written or not."""
        now = monotonic()
        if now - self._used_at.get(prefix, -inf) >= _KEY_EVERY_S:
            if len(self._used_at) >= _MOST_KEYS:
                self._used_at.clear()
            self._used_at[prefix] = now
            self._used.add(prefix)

    async def run(self) -> None:
        """Write what was counted, for ever."""
        while True:
            await asyncio.sleep(_EVERY_S)
            await self.flush()

    async def flush(self) -> None:
        """Write what was counted; what cannot be written is let go."""
        accesses, self._accesses = self._accesses, Counter()
        rejected, self._rejected = self._rejected, Counter()
        by_shard: dict[int, dict[tuple[int, int], int]] = {}
        for (shard, agent, number), count in accesses.items():
            by_shard.setdefault(shard, {})[agent, number] = count
        for number, here in by_shard.items():
            await self._write(number, partial(_accessed, here))
        for tenant, count in rejected.items():
            await self._write(self._lane.cluster.shard_of(tenant, ""), partial(_rejected, tenant, count))
        if self._used:
            await self._write_used()
        for number, noted in self.log.take().items():
            if not await self._write(number, partial(self._logged, noted)):
                self._lane.measures.logged(dropped=len(noted))
        await self._keep_vectors()

    def _logged(self, noted: list[Noted], shard: Shard) -> None:
        self._lane.measures.logged(kept=asked.log(shard, self.log.rows(noted)))

    async def _keep_vectors(self) -> None:
        vectors, self._vectors = self._vectors, {}
        cluster, model = self._lane.cluster, self._lane.model.name
        by_shard: dict[int, dict[Text, Cached]] = {}
        for text, made in vectors.items():
            by_shard.setdefault(cluster.shard_of_text(text.tenant, text.hash), {})[text] = made
        for number, here in by_shard.items():
            await self._write(number, partial(_kept, cluster, model, here))

    async def _write_used(self) -> None:
        used, self._used = self._used, set()
        control = self._lane.cluster.control
        try:
            await self._threads.on_control(lambda: tenants.note_use(control, used), LOOK_S)
        except MemlaneError as error:
            log.info("tally.keys_not_written", keys=len(used), why=str(error))

    async def _write(self, number: int, work: Callable[[Shard], None]) -> bool:
        """Whether it was written."""
        try:
            await self._threads.on_shard(number, lambda: self._lane.cluster.on(number, work))
        except MemlaneError as error:
            log.info("tally.not_written", shard=number, why=str(error))
            return False
        return True


def _accessed(accesses: Mapping[tuple[int, int], int], shard: Shard) -> None:
    memories.count_accesses(shard, accesses)


def _rejected(tenant: str, count: int, shard: Shard) -> None:
    ledger.note(shard, tenant, Event.REJECTED, count)


def _kept(cluster: Cluster, model: str, vectors: Mapping[Text, Cached], _shard: Shard) -> None:
    embedding_cache.keep(cluster, model, vectors)
