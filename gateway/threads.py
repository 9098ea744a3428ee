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

T = TypeVar("T")


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

    async def on_node(self, node: str, work: Callable[[], T]) -> T:
        """Run work that asks a node by name.

        Raises:
            Unavailable: too many wait for it already.
        """
        return await self._run(node, work)

    async def on_shard(self, shard: int, work: Callable[[], T]) -> T:
        """Run work that asks one shard.

        Raises:
            Unavailable: too many wait for its node already.
        """
        node = self._cluster.node_of(shard)
        if node is None:
            raise NodeDown(f"shard {shard} is on a node that does not answer")
        return await self._run(node, work)

    async def on_each(self, shards: Iterable[int], work: Callable[[int], T]) -> list[T | Unavailable]:
        """Run work on several shards side by side; a refusal stands in the place of its result."""
        return await asyncio.gather(*(self._caught(shard, work) for shard in shards))

    async def _caught(self, shard: int, work: Callable[[int], T]) -> T | Unavailable:
        try:
            return await self.on_shard(shard, lambda: work(shard))
        except Unavailable as error:
            return error

    async def _run(self, node: str, work: Callable[[], T]) -> T:
        if self._busy[node] >= self._limit:
            raise Unavailable(f"too many calls wait for node {node}", 1.0)
        self._busy[node] += 1
        future = asyncio.get_running_loop().run_in_executor(self._pools[node], work)
        future.add_done_callback(lambda _: self._done(node))
        try:
            async with asyncio.timeout(self._patience_s):
                return await asyncio.shield(future)
        except TimeoutError:
            # A server that is stopped, not gone, keeps its thread; whether it did the work is not known.
            raise NodeDown(f"node {node} does not answer") from None

    def _done(self, node: str) -> None:
        self._busy[node] -= 1
