"""Going on: what waited for money is looked at again at once, when a budget or a price is another, and once more later.

What a drain has in its hands just then it puts off by what the budget was before, after the first look. So there is a
second, when such a drain has surely finished.
"""

import asyncio

import structlog

from memlane.errors import MemlaneError, Unavailable
from memlane.gateway.threads import LOOK_S, NodeThreads
from memlane.tasks import batch_embed
from memlane.tasks.lane import Lane

log = structlog.get_logger(__name__)

_SOON_S = 5.0
"""How long after a look the next one follows, where some was left."""


class Resuming:
    """Lets the vectors that wait for money be tried again.

    Args:
        lane: this process's.
        threads: where shards are asked.
    """

    def __init__(self, lane: Lane, threads: NodeThreads) -> None:
        self._lane = lane
        self._threads = threads
        self._later: dict[str | None, asyncio.Task[None]] = {}

    async def go_on(self, tenant: str | None) -> None:
        """Let the vectors of a tenant, or of all, that wait for money be tried now; what is left goes on later."""
        before = self._later.get(tenant)
        if before is not None:
            before.cancel()
        self._later[tenant] = asyncio.create_task(self._again(tenant))
        if left := await self._look(tenant):
            log.warning("budget.not_resumed", tenant=tenant, shards=left)

    async def close(self) -> None:
        """Look no more; what is still put off is tried within an hour."""
        tasks = list(self._later.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _again(self, tenant: str | None) -> None:
        await self._look_until_done(tenant)
        await asyncio.sleep(self._lane.settings.reservation_s)
        await self._look_until_done(tenant)
        del self._later[tenant]

    async def _look_until_done(self, tenant: str | None) -> None:
        done = False
        while not done:
            await asyncio.sleep(_SOON_S)
            try:
                done = not await self._look(tenant)
            except MemlaneError as error:
                log.warning("budget.not_resumed", tenant=tenant, why=str(error))

    async def _look(self, tenant: str | None) -> list[int]:
        """Make due what waits, on all shards; those where some may be left."""
        numbers = range(self._lane.cluster.shard_count)
        found = await self._threads.on_each(
            numbers, lambda number: batch_embed.resume(self._lane, number, tenant), LOOK_S
        )
        return [number for number, one in zip(numbers, found, strict=True) if isinstance(one, Unavailable)]
