"""Looking how far memories have come: all who look at a node at the same moment do so in one round trip."""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from memlane.errors import MemlaneError, NodeDown
from memlane.gateway.threads import NodeThreads
from memlane.storage import ids
from memlane.storage.ids import Key, Known
from memlane.tasks.lane import Lane

Seen: TypeAlias = dict[Key, Known]


@dataclass(eq=False, slots=True)
class _Look:
    """A look that is about to begin, and what it looks for by shard."""

    wanted: defaultdict[int, dict[Key, None]] = field(default_factory=lambda: defaultdict(dict))
    begun: asyncio.Task[dict[int, Seen | MemlaneError]] | None = None


class Looking:
    """The looks of a gateway.

    Args:
        lane: this process's.
        threads: where they are done.
    """

    def __init__(self, lane: Lane, threads: NodeThreads) -> None:
        self._lane = lane
        self._threads = threads
        self._next: dict[str | None, _Look] = {}

    async def look(self, shard: int, keys: Sequence[Key]) -> Seen:
        """How far memories of a shard have come now; unknown ones are left out.

        Raises:
            Unavailable: the shard does not answer.
        """
        if not keys:
            return {}
        node = self._lane.cluster.node_of(shard)
        look = self._next.get(node)
        if look is None:
            look = self._next[node] = _Look()
            look.begun = asyncio.create_task(self._begin(node, look))
        look.wanted[shard].update(dict.fromkeys(keys))
        assert look.begun is not None
        seen = (await asyncio.shield(look.begun))[shard]
        if isinstance(seen, MemlaneError):
            raise seen
        return {key: seen[key] for key in keys if key in seen}

    async def _begin(self, node: str | None, look: _Look) -> dict[int, Seen | MemlaneError]:
        """Look, once all who have come by now have said for what."""
        del self._next[node]
        wanted = {shard: list(keys) for shard, keys in look.wanted.items()}
        try:
            return await self._threads.on_shard(next(iter(wanted)), lambda: self._seen(wanted))
        except MemlaneError as error:
            return dict.fromkeys(wanted, error)

    def _seen(self, wanted: dict[int, list[Key]]) -> dict[int, Seen | MemlaneError]:
        """What is seen on shards, at once if it can be, or else one by one."""
        cluster = self._lane.cluster
        if len(wanted) > 1:
            try:
                shards = [(cluster.shard(number), keys) for number, keys in wanted.items()]
                if len({shard.node.name for shard, _ in shards}) == 1:
                    return dict(zip(wanted, ids.states_at_once(shards), strict=True))
            except NodeDown as error:
                return dict.fromkeys(wanted, error)
            except MemlaneError:  # one of them has moved
                pass
        return {number: self._alone(number, keys) for number, keys in wanted.items()}

    def _alone(self, number: int, keys: list[Key]) -> Seen | MemlaneError:
        try:
            return self._lane.cluster.on(number, lambda shard: ids.states(shard, keys))
        except MemlaneError as error:
            return error
