"""Measures: what a process counts of its own work. Added up over all processes they are the series of /metrics.

Each process tells its own from time to time (tasks/pulse.py), whichever way it came to be, so that the sums are right
under prefork; what ended processes had counted stays in them. No series names a tenant or an agent.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import psutil
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.metrics_core import Metric
from prometheus_client.samples import Sample

from memlane.tasks.series import series

_SECONDS = (0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60)

_SIZES = (1, 4, 16, 64, 256, 1024)


@dataclass(frozen=True, slots=True)
class Measured:
    """What a process has counted, and how it is now, each by the name of a series with its labels."""

    counts: Mapping[str, float]
    gauges: Mapping[str, float]


class Measures:
    """The series of one process.

    Args:
        role: its class: of workers, or `gateway`; the label of what differs by it.
    """

    def __init__(self, role: str) -> None:
        self.registry = CollectorRegistry()
        self._role = role
        self._process = psutil.Process()
        self._operations = Histogram(
            "memlane_operation_seconds",
            "How long operations took, by name.",
            ("operation",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._errors = self._counter("operation_errors", "Operations that failed, by error.", "operation", "error")
        self._hooks = self._counter("hook_failures", "Times that a hook around an operation raised.", "hook")
        self._jobs = self._counter("jobs_finished", "Jobs of drains, by what became of them.", "kind", "outcome")
        self._batches = Histogram(
            "memlane_batch_jobs",
            "Jobs in a claim of a drain.",
            ("kind",),
            buckets=_SIZES,
            registry=self.registry,
        )
        self._busy = self._counter("busy_seconds", "Time that workers were at work on claims.", "class")
        self._cache = self._counter("cache_requests", "Looks into caches: hit or miss.", "cache", "result")
        self._levels = self._counter(
            "cache_looks",
            "Looks into one level of a cache (process, redis, similar): hit or miss.",
            *("cache", "level", "result"),
        )
        self._ages = self._counter("cache_age_seconds", "How old answers were that a cache knew, added up.", "cache")
        self._evicted = self._counter("cache_evictions", "Entries of processes that had to go for others.", "cache")
        self._held = self._gauge("cache_bytes", "What caches hold in processes.", "cache")
        self._dropped = self._counter("cache_invalidations", "Entries dropped since they were forgotten.", "cache")
        self._cpu = self._counter("cpu_seconds", "Processor time of processes.", "class")
        self._entries = self._gauge("cache_entries", "Entries of caches in processes.", "cache")
        self._resident = self._gauge("resident_bytes", "Memory of processes.", "class")
        self._memory = self._gauge("memory_percent", "Memory of the fullest process, of what it may have.", "class")
        self._throttle = self._gauge("throttle_level", "0: not throttled; 1: smaller claims; 2: none.", "class")
        self._pool = self._gauge("pool_connections", "Connections to nodes: busy or idle.", "node", "state")
        self._waiting = self._gauge("pool_waiting", "Calls that wait for a connection.", "node")
        self._exhausted = self._counter("pool_exhausted", "Calls that got no connection in time.", "node")
        self._logged = self._counter("questions_logged", "Questions for the log, by what became of them.", "result")
        self._warmed = self._counter("warmed", "What was made ready ahead: vectors of questions, or memories.", "what")
        self._vacuumed = self._counter("vacuumed", "Tables and indexes looked after.", "action", "outcome")
        self._let_go = self._counter("let_go", "Rows let go of by retention, by what they were.", "what")
        self._patterns = self._counter("patterns", "Patterns found in what agents are asked.")
        self._expired = self._counter("expired", "Memories forgotten since their time was over.")
        self._counted: dict[tuple[str, ...], float] = {}

    def _counter(self, name: str, help_: str, *labels: str) -> Counter:
        return Counter(f"memlane_{name}", help_, labels, registry=self.registry)

    def _gauge(self, name: str, help_: str, *labels: str) -> Gauge:
        return Gauge(f"memlane_{name}", help_, labels, registry=self.registry)

    def operation(self, name: str, seconds: float, error: str | None = None) -> None:
        """An operation ended, well or with an error of that name."""
        self._operations.labels(name).observe(seconds)
        if error is not None:
            self._errors.labels(name, error).inc()

    def hook_failed(self, hook: str) -> None:
        """A hook raised, as PLUGIN.MOMENT."""
        self._hooks.labels(hook).inc()

    def claim(self, kind: str, jobs: int, seconds: float, outcomes: Mapping[str, int]) -> None:
        """A claim of a drain was worked off."""
        self._batches.labels(kind).observe(jobs)
        self._busy.labels(self._role).inc(seconds)
        for outcome, count in outcomes.items():
            self._jobs.labels(kind, outcome).inc(count)

    def cache(self, name: str, *, hits: int = 0, misses: int = 0, dropped: int = 0) -> None:
        """A cache was asked, or had to let go of something."""
        if hits or misses:  # both series begin together: of one that never hit, Prometheus would see no share
            self._cache.labels(name, "hit").inc(hits)
            self._cache.labels(name, "miss").inc(misses)
        if dropped:
            self._dropped.labels(name).inc(dropped)

    def looked(self, cache: str, level: str, *, hit: bool, age_s: float = 0.0) -> None:
        """One level of a cache was asked; what it knew was so old."""
        self._levels.labels(cache, level, "hit").inc(int(hit))
        self._levels.labels(cache, level, "miss").inc(int(not hit))
        if age_s:
            self._ages.labels(cache).inc(age_s)

    def held(self, cache: str, entries: int, size_bytes: int, evicted: int) -> None:
        """How much a cache of this process holds, and how many entries had to go for others so far."""
        self._entries.labels(cache).set(entries)
        self._held.labels(cache).set(size_bytes)
        self._add(self._evicted, (cache,), evicted)

    def logged(self, *, kept: int = 0, dropped: int = 0) -> None:
        """Questions were written to their log, or dropped: there was no room, or their shard did not take them."""
        if kept:
            self._logged.labels("kept").inc(kept)
        if dropped:
            self._logged.labels("dropped").inc(dropped)

    def warmed(self, *, questions: int = 0, memories: int = 0) -> None:
        """Vectors of questions were made, or memories read, before anybody asked for them."""
        if questions:
            self._warmed.labels("questions").inc(questions)
        if memories:
            self._warmed.labels("memories").inc(memories)

    def vacuumed(self, action: str, outcome: str) -> None:
        """A table or an index was looked after, or that was tried."""
        self._vacuumed.labels(action, outcome).inc()

    def let_go(self, what: str, rows: int) -> None:
        """Retention let go of rows."""
        if rows:
            self._let_go.labels(what).inc(rows)

    def patterns(self, found: int) -> None:
        """Patterns were found; one that is found again counts again."""
        self._patterns.inc(found)

    def expired(self, memories: int) -> None:
        """Memories were forgotten whose time was over."""
        self._expired.inc(memories)

    def cache_entries(self, name: str, entries: int) -> None:
        """How many entries a cache of this process has."""
        self._entries.labels(name).set(entries)

    def memory(self, percent: float, level: int) -> None:
        """How much of its memory this process has used, and how far it is throttled for that."""
        self._memory.labels(self._role).set(percent)
        self._throttle.labels(self._role).set(level)

    def pool(self, node: str, stats: Mapping[str, int]) -> None:
        """How the connections to a node are; the stats are psycopg_pool's."""
        idle = stats.get("pool_available", 0)
        self._pool.labels(node, "idle").set(idle)
        self._pool.labels(node, "busy").set(stats.get("pool_size", 0) - idle)
        self._waiting.labels(node).set(stats.get("requests_waiting", 0))
        self._add(self._exhausted, (node,), stats.get("requests_errors", 0))

    def now(self) -> Measured:
        """All that there is to tell at this moment."""
        times = os.times()
        self._add(self._cpu, (self._role,), times.user + times.system)
        self._resident.labels(self._role).set(self._process.memory_info().rss)
        counts: dict[str, float] = {}
        gauges: dict[str, float] = {}
        for family in self.registry.collect():
            into = gauges if family.type == "gauge" else counts
            into.update({series(sample): sample.value for sample in told(family)})
        return Measured(counts, gauges)

    def _add(self, counter: Counter, labels: tuple[str, ...], total: float) -> None:
        """Bring a counter to a total that somebody else counts."""
        key = (str(counter), *labels)
        grown = total - self._counted.get(key, 0.0)
        if grown > 0:
            counter.labels(*labels).inc(grown)
            self._counted[key] = total


def told(family: Metric) -> Iterator[Sample]:
    """The samples of a family that are told: all but when it was made."""
    return (sample for sample in family.samples if not sample.name.endswith("_created"))
