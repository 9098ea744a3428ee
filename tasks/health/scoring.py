"""Scoring: from the components' scores to that of the whole. The scale is in memlane/contract/health.py."""

from collections.abc import Mapping, Sequence

from memlane.contract.health import Component

WEIGHTS: Mapping[str, int] = {
    "database": 100,
    "broker": 100,
    "processes": 100,
    "queue": 80,
    "requests": 80,
    "duties": 60,
    "resources": 60,
    "pools": 60,
    "indexes": 60,
    "cache": 30,
    "money": 30,
}
"""What each component means to callers: how much of what it lacks the whole lacks, in percent."""


def overall(components: Sequence[Component]) -> int:
    """The score of the whole: as good as the worst component, each by its weight."""
    worst = max((WEIGHTS[part.name] * (100 - part.score) for part in components), default=0)
    return 100 - -(-worst // 100)
