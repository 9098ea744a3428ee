"""Rehearsal: what somebody needs who does a job's work for real, but lets nothing of it be."""

from uuid import UUID

from memlane.storage import queries
from memlane.storage.cluster import Shard
from memlane.storage.jobs import Kind

_SQL = queries.load("profile")


def come_first(shard: Shard, kind: Kind, tenant: str, agent: int, id_: UUID) -> str:
    """Make a job the first that a claim of its tenant takes; after which tenant that claim has to begin.

    Only for a transaction that is rolled back: it passes by all who wait.
    """
    params = {"kind": kind.value, "tenant": tenant, "agent": agent, "id": id_}
    return str(shard.run(_SQL["come_first"], params)[0][0])


def commit(shard: Shard) -> None:
    """Commit something that leaves nothing, and wait for disks and standbys as any commit does."""
    shard.node.run(_SQL["commit"].render(), writes=True)
