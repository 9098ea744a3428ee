"""Threads at the door: storage is synchronous, and each node has threads of its own.

So a node that hangs fills its own threads and queue, after which its calls are refused at once, and
the other nodes' callers do not notice. No call is waited for longer than its statement may take.
"""

import asyncio
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from memlane.config.settings import Settings
from memlane.errors import NodeDown, Unavailable
from memlane.storage.cluster import Cluster
from memlane.storage.nodes import Node

T = TypeVar("T")

LOOK_S = 3.0
"""How long those who ask how things are wait for each answer; what takes longer is as good as down."""


class NodeThreads:
    """A bounded pool of threads for each node."""

    def __init__(self, cluster: Cluster, settings: Settings) -> None:
        self._cluster = cluster
        self._limit = settings.gateway_threads + settings.gateway_queue
        self._patience_s = settings.statement_timeout_s + settings.pool_wait_s
        self._busy = dict.fromkeys(cluster.nodes, 0)
        self._pools = {
            name: ThreadPoolExecutor(settings.gateway_threads, thread_name_prefix=name) for name in cluster.nodes
        }

    def close(self) -> None:
        """Let go of the threads; a call that hangs does not hold us up."""
        for pool in self._pools.values():
            pool.shutdown(wait=False, cancel_futures=True)

    async def on_control(self, work: Callable[[], T]) -> T:
        """Run work that asks the control schema.

        Raises:
            Unavailable: too many wait for that node already.
        """
        return await self._run(self._cluster.control.name, work)

    async def on_nodes(self, work: Callable[[Node], T]) -> dict[str, T | Unavailable]:
        """Run work on all nodes side by side; a refusal stands in the place of its result."""

        async def caught(node: Node) -> T | Unavailable:
            try:
                return await self._run(node.name, lambda: work(node), LOOK_S)
            except Unavailable as error:
                return error

        nodes = self._cluster.nodes
        return dict(zip(nodes, await asyncio.gather(*map(caught, nodes.values())), strict=True))

    async def on_shard(self, shard: int, work: Callable[[], T], patience_s: float | None = None) -> T:
        """Run work that asks one shard.

        Raises:
            Unavailable: too many wait for its node already.
        """
        node = self._cluster.node_of(shard)
        if node is None:
            raise NodeDown(f"shard {shard} is on a node that does not answer")
        return await self._run(node, work, patience_s)

    async def on_each(
        self, shards: Iterable[int], work: Callable[[int], T], patience_s: float | None = None
    ) -> list[T | Unavailable]:
        """Run work on several shards side by side; a refusal stands in the place of its result."""
        return await asyncio.gather(*(self._caught(shard, work, patience_s) for shard in shards))

    async def on_all(self, shards: Iterable[int], work: Callable[[int], T]) -> list[T]:
        """Run work on several shards side by side.

        Raises:
            Unavailable: one of them refused; what the others did is done.
        """
        results = []
        for result in await self.on_each(shards, work):
            if isinstance(result, Unavailable):
                raise result
            results.append(result)
        return results

    async def _caught(self, shard: int, work: Callable[[int], T], patience_s: float | None) -> T | Unavailable:
        try:
            return await self.on_shard(shard, lambda: work(shard), patience_s)
        except Unavailable as error:
            return error

    async def _run(self, node: str, work: Callable[[], T], patience_s: float | None = None) -> T:
        if self._busy[node] >= self._limit:
            raise Unavailable(f"too many calls wait for node {node}", 1.0)
        self._busy[node] += 1
        future = asyncio.get_running_loop().run_in_executor(self._pools[node], work)
        future.add_done_callback(lambda _: self._done(node))
        try:
            async with asyncio.timeout(patience_s or self._patience_s):
                return await asyncio.shield(future)
        except TimeoutError:
            # A server that is stopped, not gone, keeps its thread; whether it did the work is not known.
            raise NodeDown(f"node {node} does not answer") from None

    def _done(self, node: str) -> None:
        self._busy[node] -= 1
