"""Threads at the door: storage and providers are synchronous, and each server has threads of its own.

So a node that hangs fills its own threads and queue, after which its calls are refused at once, and
the other nodes' callers do not notice. No call is waited for longer than its statement may take.
"""

import asyncio
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from time import monotonic
from typing import Any, TypeVar

from memlane.config.settings import Settings
from memlane.errors import MemlaneError, NodeDown, Unavailable
from memlane.storage.cluster import Cluster
from memlane.storage.nodes import Node

T = TypeVar("T")

LOOK_S = 3.0
"""How long those who ask how things are wait for each answer; what takes longer is as good as down."""


class Threads:
    """Threads for calls to one server, with a bounded queue before them.

    Args:
        server: what errors name.
        threads: how many calls go on at once.
        queue: how many more may wait.
        patience_s: how long a call is waited for.
    """

    def __init__(self, server: str, threads: int, queue: int, patience_s: float) -> None:
        self._server = server
        self._limit = threads + queue
        self._patience_s = patience_s
        self._busy = 0
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=server)

    def close(self) -> None:
        """Let go of the threads; a call that hangs does not hold us up."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def run(self, work: Callable[[], T], patience_s: float | None = None) -> T:
        """Run a call in one of the threads, in the context of the caller: what it does belongs to the caller's trace.

        Raises:
            NodeDown: it took too long; whether it was done is not known.
            Unavailable: too many wait already.
        """
        if self._busy >= self._limit:
            raise Unavailable(f"too many calls wait for {self._server}", 1.0)
        self._busy += 1
        future = asyncio.get_running_loop().run_in_executor(self._pool, copy_context().run, work)
        future.add_done_callback(self._done)
        try:
            async with asyncio.timeout(patience_s or self._patience_s):
                return await asyncio.shield(future)
        except TimeoutError:
            # A server that is stopped, not gone, keeps its thread.
            raise NodeDown(f"{self._server} does not answer") from None

    def begin(self, work: Callable[[], object]) -> bool:
        """Run a call that nobody waits for; False if too many wait already, and it is not run."""
        if self._busy >= self._limit:
            return False
        self._busy += 1
        asyncio.get_running_loop().run_in_executor(self._pool, work).add_done_callback(self._done)
        return True

    def _done(self, future: asyncio.Future[Any]) -> None:
        self._busy -= 1
        if not future.cancelled():
            future.exception()  # whoever asked may be gone


class NodeThreads:
    """Threads for each node."""

    def __init__(self, cluster: Cluster, settings: Settings) -> None:
        self._cluster = cluster
        patience_s = settings.statement_timeout_s + settings.pool_wait_s
        sizes = settings.gateway_threads, settings.gateway_queue
        self._nodes = {name: Threads(f"node {name}", *sizes, patience_s) for name in cluster.nodes}
        self._map = Threads("the shard map", 1, 0, LOOK_S)
        self._look_again_at = 0.0

    def close(self) -> None:
        """Let go of all threads."""
        for threads in (*self._nodes.values(), self._map):
            threads.close()

    async def on_control(self, work: Callable[[], T], patience_s: float | None = None) -> T:
        """Run work that asks the control schema.

        Raises:
            Unavailable: too many wait for that node already.
        """
        return await self._nodes[self._cluster.control.name].run(work, patience_s)

    async def on_nodes(self, work: Callable[[Node], T]) -> dict[str, T | Unavailable]:
        """Run work on all nodes side by side; a refusal stands in the place of its result."""

        async def caught(node: Node) -> T | Unavailable:
            try:
                return await self._nodes[node.name].run(lambda: work(node), LOOK_S)
            except Unavailable as error:
                return error

        nodes = self._cluster.nodes
        return dict(zip(nodes, await asyncio.gather(*map(caught, nodes.values())), strict=True))

    async def on_shard(self, shard: int, work: Callable[[], T], patience_s: float | None = None) -> T:
        """Run work that asks one shard.

        Raises:
            Unavailable: too many wait for its node already.
        """
        node = self._cluster.node_of(shard) or await self._found_again(shard)
        if node is None:
            raise NodeDown(f"shard {shard} is on a node that does not answer")
        return await self._nodes[node].run(work, patience_s)

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

    async def _found_again(self, shard: int) -> str | None:
        """The node of a shard that was on none when the map was read; we look once a second."""
        if monotonic() >= self._look_again_at:
            self._look_again_at = monotonic() + 1.0
            with suppress(MemlaneError):
                await self._map.run(self._cluster.refresh)
        return self._cluster.node_of(shard)
