"""The state of nodes and shards, read from each as it is; one that does not answer is down, not missing."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from memlane.contract.status import JobStatus, NodeStatus, ShardStatus, StrayStatus
from memlane.errors import MemlaneError
from memlane.storage import jobs, members, queries, strays
from memlane.storage.cluster import Cluster
from memlane.storage.jobs import Backlog
from memlane.storage.nodes import Node

_SQL = queries.load("cluster")


def node_status(node: Node) -> NodeStatus:
    """Whether a node answers, and what it promises to keep."""
    try:
        return NodeStatus(node.name, True, dict(node.run(_SQL["settings"].render())))
    except MemlaneError:
        return NodeStatus(node.name, False, {})


def node_members(node: Node) -> NodeStatus:
    """As `node_status`, with each of the node's servers."""
    with ThreadPoolExecutor(1) as threads:
        asked = threads.submit(members.statuses, node)
        return replace(node_status(node), members=asked.result())


def shard_status(cluster: Cluster, number: int) -> ShardStatus:
    """Where a shard lives, and what it holds."""
    try:
        shard = cluster.shard(number)
        agents, memories, size = shard.run(_SQL["size"], {"schema": shard.schema})[0]
    except MemlaneError:
        return ShardStatus(number, cluster.node_of(number) or "unknown", False)
    return ShardStatus(number, shard.node.name, True, shard.epoch, agents, memories, size)


def backlog_of(cluster: Cluster, number: int) -> list[Backlog] | None:
    """The open jobs of a shard, or None if it does not answer."""
    try:
        return jobs.backlog(cluster.shard(number))
    except MemlaneError:
        return None


def strays_of(cluster: Cluster, number: int) -> list[StrayStatus]:
    """The strays kept in a shard; none if it does not answer."""
    try:
        return strays.summary(cluster.shard(number))
    except MemlaneError:
        return []


def summed(backlogs: Iterable[Iterable[Backlog] | None]) -> list[JobStatus]:
    """The jobs of each kind, over all shards that answered."""
    sums: dict[str, JobStatus] = {}
    for backlog in (b for found in backlogs if found is not None for b in found):
        before = sums.get(backlog.kind, JobStatus(backlog.kind, 0, 0, 0, 0.0))
        sums[backlog.kind] = JobStatus(
            before.kind,
            before.open + backlog.open,
            before.leased + backlog.leased,
            before.parked + backlog.parked,
            max(before.oldest_s, round(backlog.oldest_s, 3)),
            before.over_budget + backlog.over_budget,
        )
    return sorted(sums.values(), key=lambda status: status.kind)
