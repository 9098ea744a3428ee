"""Query patterns: which questions agents are asked again and again. Only agents that were asked are looked at."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from memlane.beat.duty import Slice, on_each
from memlane.storage import asked, patterns, progress
from memlane.storage.cluster import Shard
from memlane.tasks.lane import Lane

DUTY = "query_patterns"

_AT_ONCE = 200
"""How many agents are looked at in one statement, which holds up who stores memories of them."""

_OVERLAP_S = 60.0
"""How much of the time before a pass the next one looks at again: what was under way then was not seen."""


@dataclass(frozen=True, slots=True)
class Pass:
    """How far a pass over a shard's agents has come, in seconds of the epoch by the node's clock.

    Attributes:
        since: who was asked since then is looked at.
        begun: when it began; None: none is going on.
        after: agents up to this number are done.
    """

    since: float = 0.0
    begun: float | None = None
    after: int = 0

    def ended(self) -> "Pass":
        """Where the next one begins."""
        return Pass(self.since if self.begun is None else self.begun - _OVERLAP_S)

    @property
    def place(self) -> Mapping[str, Any]:
        """As it is kept."""
        return {"since": self.since, "begun": self.begun, "after": self.after}


def query_patterns(lane: Lane, slice_: Slice) -> str:
    """Look at the agents that were asked since the last time; a shard that does not answer waits for the next."""
    control = lane.cluster.control
    known = progress.of(control, DUTY)

    def work(shard: Shard) -> tuple[int, int]:
        return _of_shard(lane, shard, Pass(**known.get(str(shard.number), {})), slice_)

    done = list(on_each(DUTY, progress.in_order(lane.cluster.shards(), known), slice_, work))
    looked, found = (sum(counts) for counts in zip(*done, strict=True)) if done else (0, 0)
    return f"{found} patterns of {looked} agents that were asked"


def _of_shard(lane: Lane, shard: Shard, at: Pass, slice_: Slice) -> tuple[int, int]:
    """Go on with a pass, or begin one; how many agents were looked at, and how many patterns they have."""
    settings, control = lane.settings, lane.cluster.control
    now, agents = asked.since(shard, at.since, at.after)
    begun = now if at.begun is None else at.begun
    looked = found = 0
    for start in range(0, len(agents), _AT_ONCE):
        some = agents[start : start + _AT_ONCE]
        learnt = patterns.learn(shard, some, settings.pattern_window, settings.pattern_least)
        looked, found = looked + learnt.agents, found + learnt.patterns
        lane.measures.patterns(learnt.patterns)
        at = Pass(at.since, begun, some[-1])
        if slice_.over and start + _AT_ONCE < len(agents):
            progress.keep(control, DUTY, str(shard.number), at.place)
            return looked, found
    progress.keep(control, DUTY, str(shard.number), Pass(at.since, begun).ended().place)
    return looked, found
