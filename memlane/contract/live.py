"""What changes from second to second: what all processes have done so far, and how they are, as control knows it.

Counts only grow, over all processes there ever were: two looks tell what went on between. `memlane.cli.top` shows that.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from memlane.contract.cost import Budget


@dataclass(frozen=True, slots=True)
class ClassLive:
    """The processes of a class: of workers, gateways or beats.

    Attributes:
        name: of the class.
        living: how many there are.
        lost: how many ended without a good-bye, and have not been given up yet.
        resident_bytes: their memory.
        memory_percent: what the fullest of them uses of what it may have; missing where that is not known.
        throttle: how far they are throttled for that: 0 not, 1 smaller claims, 2 none.
        cpu_s: processor time that all of the class have used, in seconds; a count.
    """

    name: str
    living: int
    lost: int = 0
    resident_bytes: float = 0.0
    memory_percent: float | None = None
    throttle: int = 0
    cpu_s: float = 0.0


@dataclass(frozen=True, slots=True)
class DrainLive:
    """What drains have done with jobs of a kind, all counts.

    Attributes:
        kind: what the jobs ask for.
        claims: how many there were.
        jobs: how many jobs these had.
        outcomes: what became of them, such as stored, searchable, failed.
    """

    kind: str
    claims: float
    jobs: float
    outcomes: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class OperationLive:
    """How operations of a name went, all counts.

    Attributes:
        name: what was done.
        count: how often.
        buckets: how many took at most so many seconds, by that bound; `+Inf` has all.
        errors: how many failed, by error.
    """

    name: str
    count: float
    buckets: Mapping[str, float] = field(default_factory=dict)
    errors: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CacheLive:
    """How often a cache was asked, both counts."""

    name: str
    hits: float
    misses: float


@dataclass(frozen=True, slots=True)
class Live:
    """All of it at one moment.

    Attributes:
        at: when, by the gateway's clock.
        classes: the processes.
        drains: by kind of job.
        operations: by name.
        caches: by name.
        cost_dollars: what embeddings cost yesterday and today, in UTC: it grows during a day.
        budgets: of which at least 80 % are spent, the fullest first.
    """

    at: datetime
    classes: Sequence[ClassLive]
    drains: Sequence[DrainLive]
    operations: Sequence[OperationLive]
    caches: Sequence[CacheLive]
    cost_dollars: float
    budgets: Sequence[Budget]
