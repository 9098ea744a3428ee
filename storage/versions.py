"""Versions: what caches know of an agent is true as long as its version, read where the agent lives, is the same.

Each change of what can be read of an agent makes it another, in the same transaction
(`storage/migrations/shard/0009_pre_versions.sql`). It is random: none is ever that of two states.
"""

from dataclasses import dataclass
from uuid import UUID

from memlane.storage import queries
from memlane.storage.cluster import Cluster, Shard

_SQL = queries.load("versions")


@dataclass(frozen=True, slots=True)
class Version:
    """An agent as caches see it; times are its node's, in seconds since 1970.

    Attributes:
        shard: where it lives.
        number: what stands for it in the shard's rows.
        epoch: what caches know of the whole shard is true as long as this is the same.
        version: what they know of the agent is true as long as this is the same.
        forgotten_before: memories with a smaller number are forgotten.
        now_s: when this was read.
        until_s: when something is seen again that was superseded; None: never.
    """

    shard: int
    number: int
    epoch: UUID
    version: UUID
    forgotten_before: int
    now_s: float
    until_s: float | None


def of(shard: Shard, tenant: str, agent: str) -> Version | None:
    """The version of an agent; None if nothing was ever accepted for it, or a standby answers, which may be behind."""
    rows = [] if shard.note else shard.run(_SQL["of"], {"tenant": tenant, "agent": agent})
    return Version(shard.number, *rows[0]) if rows else None


def renew(shard: Shard, tenant: str, agent: str | None = None) -> list[int]:
    """Have caches know nothing more of a tenant's agent, or of all that it has here; their numbers."""
    return [number for (number,) in shard.write(_SQL["renew"], {"tenant": tenant, "agent": agent})]


def renew_all(cluster: Cluster, number: int) -> None:
    """Have caches know nothing more of a shard."""
    cluster.on(number, lambda shard: shard.write(_SQL["renew_all"], {}))
