"""The query log at the door: what was asked is noted at once, and written together with the tally."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from time import monotonic

from memlane.config.settings import Settings
from memlane.storage.asked import Asked
from memlane.storage.wording import normalised, question_hash
from memlane.tasks.measures import Measures

_ROOM = 10_000
"""How many questions are noted at most until they are written."""


@dataclass(frozen=True, slots=True)
class Noted:
    """A recall, as one of the agents was asked it."""

    shard: int
    agent: int
    mark: int
    query: str
    at: float
    ms: float
    hits: int
    cached: bool


class QueryLog:
    """Notes recalls, one row for each agent that was asked; where there is no room, the oldest go.

    Args:
        settings: whether recalls are logged, and whether texts are kept.
        measures: where it is counted what was dropped.
    """

    def __init__(self, settings: Settings, measures: Measures) -> None:
        self._on, self._texts = settings.query_log, settings.query_text
        self._measures = measures
        self._noted: deque[Noted] = deque(maxlen=_ROOM)

    def note(self, query: str, agent: tuple[int, int, int], hits: int, ms: float, *, cached: bool) -> None:
        """A question to an agent was answered.

        Args:
            query: what was asked.
            agent: where the agent lives, its number, and which number its memories had reached when it was forgotten.
            hits: how many it had.
            ms: how long that took.
            cached: whether the question's vector was known.
        """
        if self._on:
            self._measures.logged(dropped=int(len(self._noted) == _ROOM))
            self._noted.append(Noted(*agent, query, monotonic() - ms / 1000, ms, hits, cached))

    def take(self) -> Mapping[int, list[Noted]]:
        """What was noted since the last time, by shard and in order."""
        noted, self._noted = self._noted, deque(maxlen=_ROOM)
        by_shard: dict[int, list[Noted]] = {}
        for one in noted:
            by_shard.setdefault(one.shard, []).append(one)
        return by_shard

    def rows(self, noted: list[Noted]) -> list[Asked]:
        """As they are written; made where they are, since long texts take a moment to normalise."""
        return [self._row(one) for one in noted]

    def _row(self, one: Noted) -> Asked:
        query = normalised(one.query) if self._texts else None
        spelt = one.query if self._texts and one.query != query else None
        age_s = monotonic() - one.at
        return Asked(one.agent, one.mark, question_hash(one.query), query, spelt, age_s, one.ms, one.hits, one.cached)
