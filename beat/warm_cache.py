"""Warm cache: embeds what agents are asked again and again, and reads the memories of those about to be asked."""

import random
from collections.abc import Iterable
from dataclasses import dataclass

import structlog

from memlane.beat.duty import Slice, on_each
from memlane.errors import BudgetRefused, ProviderRefused
from memlane.storage import asked, patterns, progress, warm
from memlane.storage.cluster import Shard
from memlane.storage.warm import Choice
from memlane.tasks import warming
from memlane.tasks.lane import Lane

log = structlog.get_logger(__name__)

DUTY = "warm_cache"

_PATTERNS = 256
"""How many patterns are looked at at once."""

_AGENTS = 50
"""For how many agents it is asked at once what is worth being read."""


@dataclass(slots=True)
class _Tally:
    """What a run came to."""

    questions: int = 0
    refused: int = 0
    memories: int = 0
    agents: int = 0

    def __str__(self) -> str:
        refused = f", {self.refused} refused" if self.refused else ""
        return f"{self.questions} questions embedded{refused}; {self.memories} memories of {self.agents} agents read"


def warm_cache(lane: Lane, slice_: Slice) -> str:
    """Warm all shards: vectors for half of the slice at most, then memories; one that does not answer is left out."""
    tally = _Tally()
    _embed(lane, Slice(slice_.left_s / 2), tally)
    _read(lane, slice_, tally)
    return str(tally)


def _embed(lane: Lane, slice_: Slice, tally: _Tally) -> None:
    """Embed the patterns that the cache lacks, and go on next time where the slice was over."""
    known = progress.of(lane.cluster.control, DUTY)

    def work(shard: Shard) -> bool:
        place = known.get(str(shard.number), {})
        after = int(place.get("agent", 0)), bytes.fromhex(place.get("hash", ""))
        return _embed_shard(lane, shard, after, slice_, tally)

    all(  # the first that says no ends it
        on_each(DUTY, progress.in_order(lane.cluster.shards(), known), slice_, work)
    )


def _embed_shard(lane: Lane, shard: Shard, after: tuple[int, bytes], slice_: Slice, tally: _Tally) -> bool:
    """Embed those of one shard; whether it makes sense to go on with others."""
    control, part = lane.cluster.control, str(shard.number)
    while page := patterns.page(shard, after, _PATTERNS):
        made = warming.warm(lane, page)
        tally.questions += len(made.found)
        tally.refused += len(made.refusals)
        if not made.found and (why := _in_vain(made.refusals.values())):
            log.warning("warm_cache.refused", why=str(why))
            return False
        after = page[-1].agent, page[-1].hash
        if slice_.over:
            progress.keep(control, DUTY, part, {"agent": after[0], "hash": after[1].hex()})
            return False
    progress.keep(control, DUTY, part, {})
    return True


def _in_vain(refusals: Iterable[ProviderRefused]) -> ProviderRefused | None:
    """A refusal that others would meet as well: neither a budget's, nor that of one text."""
    return next((why for why in refusals if not isinstance(why, BudgetRefused) and not why.about_input), None)


def _read(lane: Lane, slice_: Slice, tally: _Tally) -> None:
    """Read the memories of agents about to be asked; chance says which shard is first: time may not do for all."""
    shards = lane.cluster.shards()
    in_any_order = random.sample(shards, len(shards))
    tally.agents = sum(on_each(DUTY, in_any_order, slice_, lambda shard: _read_shard(lane, shard, slice_, tally)))


def _read_shard(lane: Lane, shard: Shard, slice_: Slice, tally: _Tally) -> int:
    """Read those of one shard; of how many agents."""
    settings, agents = lane.settings, 0
    choice = Choice(settings.warm_memories, settings.warm_used_s, settings.warm_resonance, settings.warm_weights)
    active = asked.lately(shard, settings.warm_active_s, settings.warm_agents)
    for start in range(0, len(active), _AGENTS):
        for agent in warm.worth(shard, active[start : start + _AGENTS], choice):
            if slice_.over:
                return agents
            tally.memories += warming.preload(lane, shard, agent, agent.memories)
            agents += 1
    return agents
