"""How much the memories of an agent hold that are not stored yet: as its shard said a moment ago, and what came since.

Nobody is asked before an agent has handed over an eighth of the limit to this process, and then only the shards of such
agents, for those that hold more than that.
"""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from threading import Lock
from typing import TypeAlias

from memlane.storage.looks import Look

EVERY_S = 2.0
"""How often the shards are asked, while there is somebody to ask for."""

_AGENTS = 20_000
"""Of how many agents is noted what they have handed over; of more, those with little are let go."""

Agent: TypeAlias = tuple[str, str]
"""A tenant and its name for the agent."""

Find: TypeAlias = Callable[[Collection[Agent], int], Mapping[Agent, int]]
"""Asks their shards how many bytes agents hold there, 0 if it is no more than so many; without those whose shards do
not answer."""


class OpenBytes:
    """What agents hold open, for one process.

    What other processes have taken in since the last look is not known, nor is what was finished since. A shard says
    what it has on its disk, which is compressed; what came since counts as it came.

    Args:
        limit_bytes: how much an agent may hold; None: any amount, and nobody counts.
        find: asks the shards.
    """

    def __init__(self, limit_bytes: int | None, find: Find) -> None:
        self.limit_bytes = limit_bytes
        self._much = (limit_bytes or 0) // 8
        self._find = find
        self._look: Look[None] = Look("open bytes", self._read, EVERY_S, None)
        self._lock = Lock()
        self._open: dict[Agent, int] = {}
        """Those that hold much, as their shards said."""
        self._taken: Counter[Agent] = Counter()
        """What was taken in since their shards answered."""

    def take(self, tenant: str, wanted: Sequence[tuple[str, int]], *, all_or_none: bool = False) -> list[bool]:
        """Take in what there is room for, in order; whether each was.

        Args:
            tenant: whose they are.
            wanted: for each memory its agent and its bytes.
            all_or_none: all are taken in, or none.
        """
        if self.limit_bytes is None:
            return [True] * len(wanted)
        if self._watched(tenant, {agent for agent, _ in wanted}):
            _ = self._look.value
        with self._lock:
            granted = [self._took((tenant, agent), size) for agent, size in wanted]
            if all_or_none and not all(granted):
                self._give_back(tenant, [one for one, took in zip(wanted, granted, strict=True) if took])
                return [False] * len(wanted)
            if len(self._taken) > _AGENTS:
                self._taken = Counter(dict(self._taken.most_common(_AGENTS // 2)))
        return granted

    def give_back(self, tenant: str, taken: Sequence[tuple[str, int]]) -> None:
        """Some of what was taken in did not become jobs after all."""
        if self.limit_bytes is not None:
            with self._lock:
                self._give_back(tenant, taken)

    def close(self) -> None:
        """Ask no more."""
        self._look.close()

    def _took(self, agent: Agent, size: int) -> bool:
        assert self.limit_bytes is not None
        if self._open.get(agent, 0) + self._taken[agent] + size > self.limit_bytes:
            return False
        self._taken[agent] += size
        return True

    def _give_back(self, tenant: str, taken: Sequence[tuple[str, int]]) -> None:
        for name, size in taken:
            self._less((tenant, name), size)

    def _less(self, agent: Agent, size: int) -> None:
        left = self._taken[agent] - size
        if left > 0:
            self._taken[agent] = left
        else:
            del self._taken[agent]

    def _watched(self, tenant: str, names: Collection[str]) -> bool:
        """Whether it has to be looked what one of a tenant's agents holds."""
        with self._lock:
            return any(self._is_watched((tenant, name)) for name in names)

    def _is_watched(self, agent: Agent) -> bool:
        return agent in self._open or self._taken[agent] >= self._much

    def _read(self) -> None:
        with self._lock:
            seen = {agent: self._taken[agent] for agent in {*self._taken, *self._open} if self._is_watched(agent)}
        if not seen:
            return
        found = self._find(seen, self._much)
        with self._lock:
            known = {**self._open, **found}
            self._open = {agent: held for agent, held in known.items() if held}
            for agent in found:
                self._less(agent, seen[agent])
