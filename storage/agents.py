"""Agents: the numbers that stand for them in a shard's rows, and what recall has to know of them."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any
from uuid import UUID

from cachetools import LRUCache

from memlane.storage import queries
from memlane.storage.cluster import Shard

_SQL = queries.load("agents")

FORGET = UUID("0f6f2f0e-5b1f-5a55-9b53-666f72676574")
"""The id of forget jobs: an agent has at most one open."""


@dataclass(frozen=True, slots=True)
class Agent:
    """An agent as recall sees it.

    Attributes:
        name: its tenant's name for it.
        number: what stands for it in the shard's rows.
        memories: how many it has.
        mean_words: distinct words of a memory, on average; at least 1.
        forgotten_before: memories with a smaller number are forgotten.
        conditional: some of them may have expired or been superseded.
        indexed_upto: vectors up to this number are in an index of its own; 0 without one.
        ef_search: how much of that index is looked at, at least.
    """

    name: str
    number: int
    memories: int
    mean_words: float
    forgotten_before: int
    conditional: bool
    indexed_upto: int
    ef_search: int = 0


class AgentNumbers:
    """The numbers of agents, remembered: a number never changes, and an agent never goes."""

    def __init__(self, size: int) -> None:
        self._known: LRUCache[tuple[int, str, str], int] = LRUCache(size)
        self._names: LRUCache[tuple[int, int], str] = LRUCache(size)
        self._lock = Lock()

    def clear(self) -> None:
        """Forget them; who needs one asks again."""
        with self._lock:
            self._known.clear()
            self._names.clear()

    def of(self, shard: Shard, tenant: str, agents: Collection[str], *, register: bool) -> Mapping[str, int]:
        """The numbers of agents by name; unknown ones are registered, or else left out."""
        found = self.known(shard.number, tenant, agents)
        missing = sorted(set(agents) - found.keys())
        if missing:
            found |= _numbers(shard, tenant, missing, register)
            with self._lock:
                self._known.update({(shard.number, tenant, name): found[name] for name in missing if name in found})
        return found

    def known(self, shard: int, tenant: str, agents: Collection[str]) -> dict[str, int]:
        """The numbers of those agents that are remembered, by name; asks nobody."""
        with self._lock:
            return {name: self._known[key] for name in agents if (key := (shard, tenant, name)) in self._known}

    def __len__(self) -> int:
        return len(self._known)

    def names(self, shard: Shard, numbers: Collection[int]) -> Mapping[int, str]:
        """The names of agents by number."""
        with self._lock:
            found = {number: self._names[key] for number in numbers if (key := (shard.number, number)) in self._names}
        missing = [number for number in numbers if number not in found]
        if missing:
            read: dict[int, str] = dict(shard.run(_SQL["names"], {"numbers": missing}))
            found |= read
            with self._lock:
                self._names.update({(shard.number, number): name for number, name in read.items()})
        return found


def _numbers(shard: Shard, tenant: str, agents: list[str], register: bool) -> dict[str, int]:
    wanted = {"tenant": tenant, "agents": agents}
    found: dict[str, int] = dict(shard.run(_SQL["numbers"], wanted))
    if register and len(found) < len(agents):
        shard.write(_SQL["register"], {"tenant": tenant, "agents": [a for a in agents if a not in found]})
        found = dict(shard.run(_SQL["numbers"], wanted))
    return found


def find(shard: Shard, tenant: str, agent: str, model: str) -> Agent | None:
    """An agent, or None if nothing was ever accepted for it."""
    found = find_all(shard, tenant, [agent], model)
    return found[0] if found else None


def find_all(shard: Shard, tenant: str, agents: Sequence[str], model: str) -> list[Agent]:
    """Those of some agents for which anything was ever accepted, in no order."""
    rows = shard.run(_SQL["find"], {"tenant": tenant, "agents": list(agents), "model": model})
    return [_agent(*row) for row in rows]


def newest(shard: Shard, tenant: str, model: str, memories: int) -> tuple[list[Agent], int]:
    """A tenant's newest agents, until they have so many memories together, and how many more there are."""
    params = {"tenant": tenant, "model": model, "memories": memories}
    rows = shard.run(_SQL["newest"], params)
    return [_agent(*row[:-1]) for row in rows], rows[0][-1] - len(rows) if rows else 0


def _agent(name: str, number: int, memories: int, words: int, *rest: Any) -> Agent:
    return Agent(name, number, memories, max(words / memories, 1.0) if memories else 1.0, *rest)


def forget(shard: Shard, tenant: str, agent: str, request: UUID | None = None) -> int | None:
    """Forget everything that was accepted for an agent up to now; its number, or None if it is unknown.

    A job that removes the rows is opened with it. A request that was the last to be obeyed is not obeyed again.
    """
    rows = shard.write(_SQL["forget"], {"tenant": tenant, "agent": agent, "id": FORGET, "request": request})
    return rows[0][0] if rows else None


def of_tenant(shard: Shard, tenant: str) -> list[int]:
    """The numbers of all agents of a tenant in a shard."""
    return [number for (number,) in shard.run(_SQL["of_tenant"], {"tenant": tenant})]


def large(shard: Shard, promote_at: int) -> list[int]:
    """Numbers of agents with at least so many memories, the largest first."""
    return [number for (number,) in shard.run(_SQL["large"], {"promote_at": promote_at})]
