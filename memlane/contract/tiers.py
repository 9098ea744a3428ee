"""Tiers and resonance: how fresh a memory is, by its age and its use.

A memory is as old as the last time that it was handed over or recalled. Its resonance is what its use still counts for:
it is born with some, a recall lifts it by a share of what is missing to 1, and it decays with every hour. The decay of
0.995 an hour is that of recency in Park et al., Generative Agents (2023); it halves in 138 hours. Nothing is forgotten
for it, unless an operator says so.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

HOT = timedelta(hours=24)
"""How old a hot memory is at most."""

WARM = timedelta(days=7)
"""How old a warm memory is at most."""

BORN = 0.5
"""The resonance of a memory that was just handed over."""

DECAY = 0.995
"""What is left of resonance after an hour."""

LIFT = 0.2
"""By which share of what is missing to 1 a recall lifts it."""


class Tier(StrEnum):
    """How fresh a memory is."""

    HOT = "hot"
    """Handed over or recalled within 24 hours."""
    WARM = "warm"
    """Within 7 days."""
    COLD = "cold"
    """Longer ago."""


@dataclass(frozen=True, slots=True)
class Use:
    """How a memory was used.

    Attributes:
        access_count: how often it was recalled.
        resonance: what that still counts for, 0 to 1.
        tier: how fresh it is now.
        last_accessed_at: when it was recalled last; missing if never.
    """

    access_count: int
    resonance: float
    tier: Tier
    last_accessed_at: datetime | None = None


def tier_of(last: datetime, now: datetime) -> Tier:
    """The tier of a memory that was last handed over or recalled then."""
    if now - last <= HOT:
        return Tier.HOT
    return Tier.WARM if now - last <= WARM else Tier.COLD


def decayed(resonance: float, hours: float) -> float:
    """What is left of a resonance after so many hours."""
    return float(resonance * DECAY ** max(0.0, hours))


def lifted(resonance: float, recalls: int) -> float:
    """A resonance after so many recalls at once; never more than 1."""
    return float(1 - (1 - resonance) * (1 - LIFT) ** recalls)
