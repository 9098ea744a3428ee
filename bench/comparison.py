"""A comparison: the figures of all systems from one run, and what they rest on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from memlane.bench.figures import Circumstances
from memlane.bench.recall import RecallFigures
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
    """

    systems: Sequence[System]
    recall: Sequence[RecallFigures]
    targets_ms: Mapping[Row, float]
    sizes: Sizes
    circumstances: Circumstances
    versions: Mapping[str, str]
    provider: Mapping[str, float]
    commit: str | None = None

    @property
    def failed(self) -> bool:
        """Whether there is a system without figures."""
        return any(system.failed for system in self.systems)
