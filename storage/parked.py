"""Parked jobs: looked at, and by somebody's decision opened again or given up; see the drawing of a job's life."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from memlane.contract.parked import Parked, ParkedJob
from memlane.storage import queries
from memlane.storage.cluster import Shard
from memlane.storage.jobs import Kind
from memlane.storage.places import Place

_SQL = queries.load("parked")
_HAD = _SQL["had"].text


@dataclass(frozen=True, slots=True)
class Which:
    """Which parked jobs of a shard are meant; None where nothing is asked."""

    tenant: str | None = None
    kind: Kind | None = None
    id: UUID | None = None
    number: int | None = None
    agent: str | None = None

    @property
    def params(self) -> dict[str, Any]:
        """As parameters."""
        return {"tenant": self.tenant, "kind": self.kind and self.kind.value, "id": self.id, "number": self.number}


@dataclass(frozen=True, slots=True)
class Dropped:
    """A job that was given up: whose it was, and the hash of the text that is not remembered now, if there is one."""

    tenant: str
    hash: bytes | None


def listed(shard: Shard, which: Which, after: Place, limit: int) -> list[tuple[Place, ParkedJob]]:
    """Parked jobs after a place, each with its own."""
    rows = shard.run(_SQL["listed"], {**which.params, **after.params, "limit": limit})
    return [
        (
            Place(shard.number, since, number),
            ParkedJob(f"{shard.number}.{number}", shard.number, kind, tenant, id_, deaths, since, size, error),
        )
        for number, kind, tenant, id_, error, deaths, since, size in rows
    ]


def own(shard: Shard, which: Which, after: Place, limit: int) -> list[tuple[Place, Parked]]:
    """A tenant's memories whose jobs are parked, after a place, each with its own."""
    rows = shard.run(_SQL["own"], {**which.params, "agent": which.agent, **after.params, "limit": limit})
    return [
        (Place(shard.number, since, number), Parked(agent, id_, kind, deaths, since, content, error))
        for number, agent, id_, kind, error, deaths, since, content in rows
    ]


def numbers_of(shard: Shard, tenant: str, names: Sequence[tuple[str, UUID]]) -> list[int]:
    """The numbers of a tenant's memories by agent and id; unknown ones are left out."""
    params = {"tenant": tenant, "agents": [agent for agent, _ in names], "ids": [id_ for _, id_ in names]}
    return [number for (number,) in shard.run(_SQL["numbers"], params)]


def retry(shard: Shard, numbers: Sequence[int], vectors: str) -> list[Kind]:
    """Open parked jobs again, in one transaction; the kind of each that was parked."""
    return [Kind(kind) for (kind,) in shard.write(_SQL["retry"], {"numbers": list(numbers)}, had=_HAD, vectors=vectors)]


def drop(shard: Shard, numbers: Sequence[int], vectors: str) -> list[Dropped]:
    """Give parked jobs up, in one transaction; those that were parked, and do not forget something."""
    rows = shard.write(_SQL["drop"], {"numbers": list(numbers)}, had=_HAD, vectors=vectors)
    return [Dropped(tenant, None if hash_ is None else bytes(hash_)) for tenant, hash_ in rows]
