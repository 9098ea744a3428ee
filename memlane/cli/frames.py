"""Frames: what `memlane top` shows at one moment; rates and latencies from what went on since a look before."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from memlane.contract.cost import Budget
from memlane.contract.health import HealthSummary
from memlane.contract.histogram import quantile
from memlane.contract.live import CacheLive, ClassLive, DrainLive, Live, OperationLive
from memlane.contract.status import Status


@dataclass(frozen=True, slots=True)
class DrainRate:
    """What drains do with jobs of a kind, in a second."""

    kind: str
    claims_per_s: float
    jobs_per_s: float
    outcomes_per_s: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class OperationRate:
    """How operations of a name go: how many in a second, how long they take, how many fail in a second."""

    name: str
    per_s: float
    p50_ms: float | None
    p95_ms: float | None
    errors_per_s: float


@dataclass(frozen=True, slots=True)
class ClassRate:
    """The processes of a class, with what they use of a core, in percent of one."""

    name: str
    living: int
    lost: int
    cpu_percent: float | None
    resident_bytes: float
    memory_percent: float | None
    throttle: int


@dataclass(frozen=True, slots=True)
class CacheRate:
    """How often a cache was asked in a second, and how often it knew, in percent."""

    name: str
    per_s: float
    hit_percent: float | None


@dataclass(frozen=True, slots=True)
class Frame:
    """All that is shown.

    Attributes:
        url: of the gateway.
        at: when it was looked at; missing before the first look that went well.
        over_s: over how many seconds rates and latencies are; 0 before the second look.
        status: nodes, shards, jobs, strays, duties, broker.
        health: missing where the gateway has none.
        drains: by kind.
        operations: by name.
        classes: of processes.
        caches: by name.
        cost_dollars_per_min: what embeddings cost.
        budgets: of which at least 80 % are spent.
        error: why the last look went wrong; all else is then older.
    """

    url: str
    at: datetime | None = None
    over_s: float = 0.0
    status: Status | None = None
    health: HealthSummary | None = None
    drains: Sequence[DrainRate] = ()
    operations: Sequence[OperationRate] = ()
    classes: Sequence[ClassRate] = ()
    caches: Sequence[CacheRate] = ()
    cost_dollars_per_min: float | None = None
    budgets: Sequence[Budget] = ()
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Look:
    """What was asked at one moment."""

    status: Status
    live: Live
    health: HealthSummary | None


def frame(url: str, before: Live | None, look: Look) -> Frame:
    """What is shown after a look, with what went on since the one before."""
    live = look.live
    since = before or live
    over_s = (live.at - since.at).total_seconds()
    cost = max(0.0, live.cost_dollars - since.cost_dollars)  # at midnight the day before yesterday goes
    drains = {drain.kind: drain for drain in since.drains}
    operations = {operation.name: operation for operation in since.operations}
    classes = {one.name: one for one in since.classes}
    caches = {cache.name: cache for cache in since.caches}
    return Frame(
        url=url,
        at=live.at,
        over_s=round(over_s, 1),
        status=look.status,
        health=look.health,
        drains=[_drain(drains.get(drain.kind), drain, over_s) for drain in live.drains],
        operations=[_operation(operations.get(one.name), one, over_s) for one in live.operations],
        classes=[_class(classes.get(one.name), one, over_s) for one in live.classes],
        caches=[_cache(caches.get(one.name), one, over_s) for one in live.caches],
        cost_dollars_per_min=cost / over_s * 60 if over_s else None,
        budgets=live.budgets,
    )


def _grown(before: Mapping[str, float] | None, now: Mapping[str, float]) -> dict[str, float]:
    return {name: max(0.0, count - (before or {}).get(name, 0.0)) for name, count in now.items()}


def _per_s(before: float | None, now: float, over_s: float) -> float:
    return round(max(0.0, now - (before or 0.0)) / over_s, 3) if over_s else 0.0


def _drain(before: DrainLive | None, now: DrainLive, over_s: float) -> DrainRate:
    outcomes = _grown(before.outcomes if before else None, now.outcomes)
    return DrainRate(
        now.kind,
        _per_s(before.claims if before else None, now.claims, over_s),
        _per_s(before.jobs if before else None, now.jobs, over_s),
        {name: round(count / over_s, 3) for name, count in outcomes.items() if count} if over_s else {},
    )


def _operation(before: OperationLive | None, now: OperationLive, over_s: float) -> OperationRate:
    buckets = _grown(before.buckets if before else None, now.buckets)
    errors = sum(_grown(before.errors if before else None, now.errors).values())
    p50, p95 = (quantile(share, buckets) if over_s else None for share in (0.5, 0.95))
    return OperationRate(
        now.name,
        _per_s(before.count if before else None, now.count, over_s),
        None if p50 is None else round(p50 * 1000, 1),
        None if p95 is None else round(p95 * 1000, 1),
        round(errors / over_s, 3) if over_s else 0.0,
    )


def _class(before: ClassLive | None, now: ClassLive, over_s: float) -> ClassRate:
    cpu = 100 * _per_s(before.cpu_s if before else None, now.cpu_s, over_s) if over_s else None
    cpu = None if cpu is None else round(cpu, 1)
    return ClassRate(now.name, now.living, now.lost, cpu, now.resident_bytes, now.memory_percent, now.throttle)


def _cache(before: CacheLive | None, now: CacheLive, over_s: float) -> CacheRate:
    hits = max(0.0, now.hits - (before.hits if before else 0.0))
    asked = hits + max(0.0, now.misses - (before.misses if before else 0.0))
    percent = round(100 * hits / asked, 1) if over_s and asked else None
    return CacheRate(now.name, round(asked / over_s, 3) if over_s else 0.0, percent)
