"""Held back: producers' memories that are over a limit, kept as strays until there is room again.

Each holds memories of one agent, so that an agent that is over its limit holds up nobody else.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from memlane.storage import queries, strays
from memlane.storage.cluster import Cluster, Shard

_SQL = queries.load("strays")

TASK = "memory.remember"
"""The only task whose messages are held back."""

REASONS: Mapping[str, str] = {
    "tenant": "held: over the tenant's rate",
    "agent": "held: over the agent's rate",
    "open_jobs": "held: over the cap of open jobs",
    "agent_open_bytes": "held: over what an agent may have open",
    "budget": "held: over a budget that refuses",
}
"""By the limit; a stray with one of these waits for room, not for a shard."""


@dataclass(frozen=True, slots=True)
class Part:
    """Memories of one agent that are held back together: as JSON, the limit that they are over, and their shard."""

    items: Sequence[Mapping[str, Any]]
    limit: str
    target: int


@dataclass(frozen=True, slots=True)
class Held:
    """A part that waits for room, since when."""

    id: UUID
    tenant: str
    agent: str
    items: Sequence[Mapping[str, Any]]
    since: datetime


@dataclass(slots=True)
class Full:
    """The tenants, and agents of tenants, for which there is no room now."""

    tenants: set[str] = field(default_factory=set)
    agents: set[tuple[str, str]] = field(default_factory=set)

    def has(self, one: Held) -> bool:
        """Whether there is no room for it."""
        return one.tenant in self.tenants or (one.tenant, one.agent) in self.agents

    def add(self, one: Held, limit: str) -> None:
        """There is none for what is counted by the same limit."""
        if limit in ("tenant", "open_jobs"):
            self.tenants.add(one.tenant)
        else:
            self.agents.add((one.tenant, one.agent))


def hold(cluster: Cluster, tenant: str, parts: Sequence[Part], message_id: str, since: datetime | None = None) -> None:
    """Hold parts of a message back, in the first shard that answers; once, however often the message is delivered.

    Args:
        cluster: where to.
        tenant: whose they are.
        parts: in the order of the message.
        message_id: the same for every delivery of it.
        since: when the message was first held back, if it was before.

    Raises:
        Unavailable: no shard answers; the message has to stay where it is.
    """
    payloads = [json.dumps({"tenant": tenant, "items": part.items}) for part in parts]
    params = {
        "ids": [strays.id_of(message_id, payload) for payload in payloads],
        "task": TASK,
        "tenant": tenant,
        "reasons": [REASONS[part.limit] for part in parts],
        "payloads": payloads,
        "targets": [part.target for part in parts],
        "since": since,
    }
    strays.put(cluster, _SQL["hold"], params)


def oldest(shard: Shard, full: Full, limit: int) -> list[Held]:
    """What is held back here, oldest first, without that for which there is no room."""
    params = {
        "tenants": sorted(full.tenants),
        "agents_of": [tenant for tenant, _ in sorted(full.agents)],
        "agents": [agent for _, agent in sorted(full.agents)],
        "limit": limit,
    }
    rows = shard.run(_SQL["held"], params)
    return [
        Held(id_, tenant, agent, json.loads(payload)["items"], since) for id_, tenant, agent, payload, since in rows
    ]


def set_aside(shard: Shard, hold_s: float) -> int:
    """Leave what was held back here for too long to an operator; how many messages that were."""
    return len(shard.write(_SQL["set_aside"], {"hold_s": hold_s}))
