"""Live: what all processes have done and how they are, in the form that `memlane top` asks for."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from memlane.contract.caching import CacheStatus
from memlane.contract.live import CacheLive, ClassLive, DrainLive, Live, OperationLive
from memlane.gateway.together import together
from memlane.storage import budgets, processes, usage
from memlane.storage.nodes import Node
from memlane.storage.processes import Process
from memlane.tasks.series import Series

_NEAR_PERCENT = 80.0
"""From which part on a budget is shown."""

_MOST_BUDGETS = 20

_LOOKS = "memlane_cache_looks_total"


def look(control: Node, lost_s: float) -> Live:
    """How it is now.

    Args:
        control: where processes say how they are.
        lost_s: after how long without a word one does not live any more.

    Raises:
        Unavailable: it does not answer.
    """
    counts, found = Series(processes.counts(control)), processes.living(control)
    sums = usage.by_model(control, since=usage.yesterday(control))
    return Live(
        at=datetime.now(UTC),
        classes=list(_classes(found, counts, lost_s)),
        drains=list(_drains(counts)),
        operations=list(_operations(counts)),
        caches=list(_caches(counts)),
        cost_dollars=sum(one.cost_dollars for one in sums.values()),
        budgets=budgets.fullest(control, _NEAR_PERCENT)[:_MOST_BUDGETS],
    )


def caches(control: Node, lost_s: float) -> list[CacheStatus]:
    """Of what use each level of each cache was, and what it holds.

    Args:
        control: where processes say how they are.
        lost_s: after how long without a word one does not live any more.

    Raises:
        Unavailable: it does not answer.
    """
    counts, found = Series(processes.counts(control)), processes.living(control)
    gauges = Series(together(process.gauges for process in found if process.lives(lost_s)))
    return [
        _cache(name, level, counts, gauges)
        for name in sorted(counts.names(_LOOKS, "cache"))
        for level in sorted(counts.by(_LOOKS, "level", cache=name))
    ]


def _cache(name: str, level: str, counts: Series, gauges: Series) -> CacheStatus:
    looks = counts.by(_LOOKS, "result", cache=name, level=level)
    hits, misses = looks.get("hit", 0.0), looks.get("miss", 0.0)
    rate = hits / (hits + misses) if hits + misses else 0.0
    if level != "process":
        return CacheStatus(name, level, hits, misses, rate)
    known = _sum(counts, _LOOKS, cache=name, result="hit")
    return CacheStatus(
        *(name, level, hits, misses, rate),
        entries=_sum(gauges, "memlane_cache_entries", cache=name),
        size_bytes=_sum(gauges, "memlane_cache_bytes", cache=name),
        evicted=_sum(counts, "memlane_cache_evictions_total", cache=name),
        age_s=_sum(counts, "memlane_cache_age_seconds_total", cache=name) / known if known else 0.0,
    )


def _sum(of: Series, name: str, **having: str) -> float:
    return sum(value for _, value in of.of(name, **having))


def _classes(found: Sequence[Process], counts: Series, lost_s: float) -> Iterator[ClassLive]:
    cpu_s = counts.by("memlane_cpu_seconds_total", "class")
    for class_ in sorted({process.class_ for process in found}):
        of_it = [process for process in found if process.class_ == class_]
        living = [process for process in of_it if process.lives(lost_s)]
        gauges = Series(together(process.gauges for process in living))
        yield ClassLive(
            class_,
            len(living),
            len(of_it) - len(living),
            sum(gauges.by("memlane_resident_bytes", "class").values()),
            gauges.by("memlane_memory_percent", "class").get(class_),
            int(gauges.by("memlane_throttle_level", "class").get(class_, 0)),
            cpu_s.get(class_, 0.0),
        )


def _drains(counts: Series) -> Iterator[DrainLive]:
    claims = counts.by("memlane_batch_jobs_count", "kind")
    jobs = counts.by("memlane_batch_jobs_sum", "kind")
    for kind in sorted(claims):
        outcomes = counts.by("memlane_jobs_finished_total", "outcome", kind=kind)
        yield DrainLive(kind, claims[kind], jobs.get(kind, 0.0), outcomes)


def _operations(counts: Series) -> Iterator[OperationLive]:
    for name, count in sorted(counts.by("memlane_operation_seconds_count", "operation").items()):
        yield OperationLive(
            name,
            count,
            counts.by("memlane_operation_seconds_bucket", "le", operation=name),
            counts.by("memlane_operation_errors_total", "error", operation=name),
        )


def _caches(counts: Series) -> Iterator[CacheLive]:
    for name in counts.names("memlane_cache_requests_total", "cache"):
        found = counts.by("memlane_cache_requests_total", "result", cache=name)
        yield CacheLive(name, found.get("hit", 0.0), found.get("miss", 0.0))
