"""The tally: what is counted off the request's path, and written together once a second."""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial

import structlog

from memlane.contract import Event
from memlane.errors import MemlaneError
from memlane.gateway.threads import NodeThreads
from memlane.storage import ledger, memories
from memlane.storage.cluster import Shard
from memlane.tasks.lane import Lane

log = structlog.get_logger(__name__)

_EVERY_S = 1.0


class Tally:
    """Counts accesses to memories, and items that were refused before they came to a shard.

    What a process had not written when it was killed is lost: these counts guide, they do not prove.
    """

    def __init__(self, lane: Lane, threads: NodeThreads) -> None:
        self._lane = lane
        self._threads = threads
        self._accesses: Counter[tuple[int, int, int]] = Counter()
        self._rejected: Counter[str] = Counter()

    def accessed(self, shard: int, accesses: Mapping[tuple[int, int], int]) -> None:
        """Memories were recalled: agent's number and memory's number to how often."""
        self._accesses.update({(shard, *key): count for key, count in accesses.items()})

    def rejected(self, tenant: str, count: int) -> None:
        """Items of a tenant were refused."""
        if count:
            self._rejected[tenant] += count

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

    async def _write(self, number: int, work: Callable[[Shard], None]) -> None:
        try:
            await self._threads.on_shard(number, lambda: self._lane.cluster.on(number, work))
        except MemlaneError as error:
            log.info("tally.not_written", shard=number, why=str(error))


def _accessed(accesses: Mapping[tuple[int, int], int], shard: Shard) -> None:
    memories.count_accesses(shard, accesses)


def _rejected(tenant: str, count: int, shard: Shard) -> None:
    ledger.note(shard, tenant, Event.REJECTED, count)
