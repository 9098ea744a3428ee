"""The sum of many rounds: a line for each, a table in the end, and the same as JSON."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from memlane.reference.markdown import table
from tests.faults.count import Counted
from tests.faults.round import Round

_COLUMNS = ("lost", "doubled", "resurrected", "unbalanced", "parked")
"""What is counted by its findings."""


@dataclass(frozen=True)
class Tally:
    """Rounds that were played against one broker.

    Attributes:
        broker: redis or rabbitmq.
        rounds: one after the other.
        whole: a last count over all of them: what was gone once may not come back later.
    """

    broker: str
    rounds: Sequence[Round]
    whole: Counted

    @property
    def good(self) -> bool:
        """Whether nothing was found."""
        return all(one.good for one in self.rounds) and not self.whole.wrong

    def summary(self) -> dict[str, Any]:
        """The figures."""
        found = {name: sum(len(getattr(one.counted, name)) for one in self.rounds) for name in _COLUMNS}
        return {
            "broker": self.broker,
            "rounds": len(self.rounds),
            "faults": sum(len(one.faults) for one in self.rounds),
            "memories": sum(one.memories for one in self.rounds),
            **found,
            "still open or leased": sum(_left(one.counted) for one in self.rounds),
            "found in the last count": len(self.whole.wrong),
        }

    def report(self) -> str:
        """Two tables for people."""
        summary = self.summary()
        by_kind = table(("fault", "times", "slowest recovery alone, s", "among others, s"), list(self._by_kind()))
        return (
            table(list(summary), [[f"{value:,}" if isinstance(value, int) else value for value in summary.values()]])
            + "\n"
            + by_kind
        )

    def _by_kind(self) -> Iterator[Sequence[str]]:
        """How often each struck, and the slowest recovery of the rounds with it alone, and with others."""
        times = Counter(fault for one in self.rounds for fault in one.faults)
        for fault, count in sorted(times.items()):
            struck = [one for one in self.rounds if fault in one.faults]
            alone = [one.recovery_s for one in struck if set(one.faults) == {fault}]
            others = [one.recovery_s for one in struck if set(one.faults) != {fault}]
            yield fault, str(count), _slowest(alone), _slowest(others)

    def write(self, path: Path) -> None:
        """Everything, as JSON."""
        rounds = [asdict(one) for one in self.rounds]
        path.write_text(json.dumps({**self.summary(), "each": rounds, "whole": asdict(self.whole)}, indent=1) + "\n")


def _slowest(recoveries: Sequence[float]) -> str:
    return f"{max(recoveries):.1f}" if recoveries else "-"


def _left(counted: Counted) -> int:
    return counted.still_open + counted.still_leased


def line(one: Round) -> str:
    """A round in a line."""
    counted = one.counted
    figures = {name: len(getattr(counted, name)) for name in _COLUMNS}
    found = ", ".join(f"{name} {figure}" for name, figure in figures.items())
    left = _left(counted)
    return (
        f"seed {one.seed}: {one.memories} memories, {found}{f', left {left}' if left else ''}, "
        f"quiet after {one.recovery_s:.1f} s: {', '.join(one.faults)}"
    )
