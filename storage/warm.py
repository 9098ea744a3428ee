"""What is worth being read ahead: the memories of agents that are most likely to be recalled."""

from collections.abc import Sequence
from dataclasses import dataclass

from memlane.storage import queries
from memlane.storage.cluster import Shard
from memlane.storage.memories import STILL

_SQL = queries.load("warm")


@dataclass(frozen=True, slots=True)
class Choice:
    """Which memories are read ahead.

    Attributes:
        memories: how many of an agent.
        used_s: only those that were recalled within so many seconds.
        resonance: only those with more than this.
        weights: of importance, resonance and accesses, by which they are ordered.
    """

    memories: int
    used_s: float
    resonance: float
    weights: tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Worth:
    """An agent, and the numbers of its memories that are worth being read ahead, the best first."""

    number: int
    agent: str
    tenant: str
    memories: Sequence[int]


def worth(shard: Shard, agents: Sequence[int], choice: Choice) -> list[Worth]:
    """What is worth being read ahead of agents, in their order; those that have nothing are left out."""
    importance, resonance, access = choice.weights
    params = {
        "agents": list(agents),
        "memories": choice.memories,
        "used_s": choice.used_s,
        "resonance": choice.resonance,
        "importance_weight": importance,
        "resonance_weight": resonance,
        "access_weight": access,
    }
    return [Worth(*row) for row in shard.run(_SQL["worth"], params, still=STILL)]
