"""Nodes and shards as they are now, asked side by side: one that hangs is down, not missing."""

import asyncio
from collections.abc import Callable

from memlane.beat.duties import due
from memlane.contract import Ledger
from memlane.contract.health import Health
from memlane.contract.status import NodeStatus, ShardStatus
from memlane.errors import Unavailable
from memlane.gateway.state import Gateway
from memlane.gateway.threads import LOOK_S, NodeThreads
from memlane.storage import ledger, status
from memlane.storage.nodes import Node
from memlane.tasks.health.look import look
from memlane.tasks.lane import Lane


async def nodes(threads: NodeThreads) -> list[NodeStatus]:
    """All nodes: whether they answer, and what they promise to keep."""
    return await _nodes(threads, status.node_status)


async def members(threads: NodeThreads) -> list[NodeStatus]:
    """All nodes, with each of their servers."""
    return await _nodes(threads, status.node_members)


async def _nodes(threads: NodeThreads, ask: Callable[[Node], NodeStatus]) -> list[NodeStatus]:
    found = await threads.on_nodes(ask)
    return [one if isinstance(one, NodeStatus) else NodeStatus(name, False, {}) for name, one in found.items()]


async def health(lane: Lane) -> Health:
    """The whole, scored; within two seconds, whatever hangs."""
    return (await asyncio.to_thread(look, lane, due(lane.settings))).health


async def shards(gateway: Gateway) -> list[ShardStatus]:
    """All shards: where they live, and what they hold."""
    cluster = gateway.lane.cluster
    numbers = range(cluster.shard_count)
    found = await gateway.threads.on_each(numbers, lambda number: status.shard_status(cluster, number), LOOK_S)
    return [
        one if isinstance(one, ShardStatus) else ShardStatus(number, cluster.node_of(number) or "unknown", False)
        for number, one in zip(numbers, found, strict=True)
    ]


async def ledger_of(gateway: Gateway, tenant: str | None) -> Ledger:
    """The sums of a tenant, or of all, over the shards that answer."""
    cluster = gateway.lane.cluster
    numbers = range(cluster.shard_count)
    found = await gateway.threads.on_each(numbers, lambda number: ledger.sums(cluster.shard(number), tenant))
    answers = (None if isinstance(one, Unavailable) else one for one in found)
    return ledger.added(dict(zip(numbers, answers, strict=True)))
