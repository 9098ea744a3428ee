"""Those who wait for receipts: one look per shard and moment serves them all.

A caller who waits for many memories is looked after by the first of them that is not there yet: jobs
are finished in batches, in order, so when that one is there the rest mostly is.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from time import monotonic

import structlog

from memlane.contract import State
from memlane.errors import MemlaneError
from memlane.gateway.looking import Looking, Seen
from memlane.gateway.threads import NodeThreads
from memlane.storage.ids import Key, Known
from memlane.tasks.lane import Lane

log = structlog.get_logger(__name__)

_SHARE = 5.0
"""A look that took t is followed by a pause of at least so many t: looking costs no more than a sixth."""


@dataclass(eq=False)
class _Group:
    """What one caller waits for on one shard."""

    keys: list[Key]
    goal: State
    known: Seen = field(default_factory=dict)
    there: asyncio.Event = field(default_factory=asyncio.Event)

    def missing(self) -> list[Key]:
        """What has not got there, in order."""
        return [key for key in self.keys if not _there(self.known.get(key), self.goal)]


def _there(known: Known | None, goal: State) -> bool:
    return known is not None and (known[0].final or known[0].reached(goal))


class Waiters:
    """All who wait, by shard."""

    def __init__(self, lane: Lane, threads: NodeThreads, pause_s: float) -> None:
        self._looking = Looking(lane, threads)
        self._pause_s = pause_s
        self._groups: dict[int, list[_Group]] = {}
        self._pollers: dict[int, asyncio.Task[None]] = {}
        self._stopping = False

    def stop(self) -> None:
        """Let nobody wait any more: the process ends, and whoever waits asks another one again."""
        self._stopping = True
        for groups in self._groups.values():
            for group in groups:
                group.there.set()

    async def wait(self, shard: int, keys: Sequence[Key], goal: State, timeout_s: float) -> Seen:
        """How far memories have come when all have reached the goal, cannot, the time is up or the process ends.

        Unknown memories are left out.
        """
        group = _Group(list(keys), goal)
        group.known.update(await self.look(shard, keys))
        group.keys = [key for key in keys if key in group.known]
        if not group.missing() or timeout_s <= 0 or self._stopping:
            return group.known
        self._groups.setdefault(shard, []).append(group)
        if shard not in self._pollers:
            self._pollers[shard] = asyncio.create_task(self._poll(shard))
        try:
            async with asyncio.timeout(timeout_s):
                await group.there.wait()
        except TimeoutError:
            group.known.update(await self.look(shard, group.missing()))
        finally:
            self._groups[shard].remove(group)
        return group.known

    async def look(self, shard: int, keys: Sequence[Key]) -> Seen:
        """How far memories have come now."""
        return await self._looking.look(shard, keys)

    async def _poll(self, shard: int) -> None:
        """Look for all who wait on a shard until nobody does."""
        loop = asyncio.get_running_loop()
        try:
            pause_s = self._pause_s
            while self._groups.get(shard):
                await asyncio.sleep(pause_s - loop.time() % self._pause_s)  # the looks of all shards fall together
                begun = monotonic()
                try:
                    await self._serve(shard)
                except MemlaneError as error:
                    log.info("waiters.shard_down", shard=shard, why=str(error))
                pause_s = max(self._pause_s, _SHARE * (monotonic() - begun))
        finally:
            del self._pollers[shard]

    async def _serve(self, shard: int) -> None:
        waiting = [group for group in self._groups[shard] if not group.there.is_set()]
        firsts = {group: group.missing()[0] for group in waiting}
        known = await self.look(shard, list(firsts.values()))
        moved = [group for group, key in firsts.items() if _there(known.get(key), group.goal)]
        known.update(await self.look(shard, [key for group in moved for key in group.missing()[1:]]))
        for group in moved:
            group.known.update({key: known[key] for key in group.keys if key in known})
            if not group.missing():
                group.there.set()
