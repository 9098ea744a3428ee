"""Nodes and shards as they are now, asked side by side: one that hangs is down, not missing."""

from memlane.contract.status import NodeStatus, ShardStatus
from memlane.gateway.state import Gateway
from memlane.gateway.threads import LOOK_S
from memlane.storage import status


async def nodes(gateway: Gateway) -> list[NodeStatus]:
    """All nodes: whether they answer, and what they promise to keep."""
    found = await gateway.threads.on_nodes(status.node_status)
    return [one if isinstance(one, NodeStatus) else NodeStatus(name, False, {}) for name, one in found.items()]


async def shards(gateway: Gateway) -> list[ShardStatus]:
    """All shards: where they live, and what they hold."""
    cluster = gateway.lane.cluster
    numbers = range(cluster.shard_count)
    found = await gateway.threads.on_each(numbers, lambda number: status.shard_status(cluster, number), LOOK_S)
    return [
        one if isinstance(one, ShardStatus) else ShardStatus(number, cluster.node_of(number) or "unknown", False)
        for number, one in zip(numbers, found, strict=True)
    ]
