"""Patterns: the questions that an agent is asked again and again."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Pattern:
    """A question that came again and again among the last ones that an agent was asked.

    Attributes:
        hash: SHA-256 of the normalised text, in hexadecimal digits.
        query: as it was asked most often; none where texts are not kept.
        seen: how often it came, when that was last counted.
        last_at: when it came last, as of then.
        found_at: when that was.
    """

    hash: str
    query: str | None
    seen: int
    last_at: datetime
    found_at: datetime


@dataclass(frozen=True, slots=True)
class Patterns:
    """The patterns of an agent, the most frequent first."""

    agent: str
    patterns: tuple[Pattern, ...]
