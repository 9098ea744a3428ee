"""A comparison: the figures of all systems from one run, and what they rest on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from memlane.bench.beside import AgentsFigures, BesideFigures
from memlane.bench.caching import Level
from memlane.bench.figures import Circumstances
from memlane.bench.growth import Growth
from memlane.bench.paced import PacedFigures
from memlane.bench.planning import PlanningFigures
from memlane.bench.raw import Raw
from memlane.bench.recall import RecallFigures
from memlane.bench.sizes import SizeFigures
from memlane.bench.systems import Row, Sizes, System


@dataclass(frozen=True, slots=True)
class Comparison:
    """Figures of one run.

    Attributes:
        systems: ours first.
        recall: ours, by agent size.
        targets_ms: what users ask for.
        sizes: how much was asked of each.
        circumstances: machine, date and durability, as read from the live servers.
        versions: of the servers.
        provider: its latency in milliseconds and its dimensions.
        commit: of the code, if it is in a repository.
        raw: what the parts can do alone.
        paced: time to searchable under half of the maximal load.
        sizes_asked: recall by an agent's size, without workers beside it.
        beside: recall while memories are taken in.
        agents: many agents at once.
        planning: of a recall among many agents.
        caches: each level, for one caller.
        growth: up to a million memories, if it was asked for.
    """

    systems: Sequence[System]
    recall: Sequence[RecallFigures]
    targets_ms: Mapping[Row, float]
    sizes: Sizes
    circumstances: Circumstances
    versions: Mapping[str, str]
    provider: Mapping[str, float]
    commit: str | None = None
    raw: Raw | None = None
    paced: PacedFigures | None = None
    sizes_asked: Sequence[SizeFigures] = ()
    beside: BesideFigures | None = None
    agents: AgentsFigures | None = None
    planning: PlanningFigures | None = None
    caches: Sequence[Level] = ()
    growth: Growth | None = None

    @property
    def failed(self) -> bool:
        """Whether there is a system without figures."""
        return any(system.failed for system in self.systems)
