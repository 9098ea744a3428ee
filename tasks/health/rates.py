"""Rates: what the processes counted between two looks, and what can be told from it: shares, and how long things took.

Counts of few requests say nothing, so whoever asks gets None then. The names of series are those of tasks/measures.py.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from memlane.contract.histogram import quantile
from memlane.tasks.series import Series

KEPT = (
    "memlane_operation_seconds_bucket",
    "memlane_operation_seconds_count",
    "memlane_operation_errors_total",
    "memlane_cache_requests_total",
    "memlane_busy_seconds_total",
    "memlane_cpu_seconds_total",
    "memlane_pool_exhausted_total",
)
"""The series whose differences are looked at."""

_SHARE = 0.95


@dataclass(frozen=True)
class Grown:
    """How much the counts have grown in a time.

    Attributes:
        seconds: the time.
        counts: by how much, by the names of series with their labels.
    """

    seconds: float
    counts: Mapping[str, float]

    @cached_property
    def _series(self) -> Series:
        return Series(self.counts)

    def of(self, name: str, **labels: str) -> Iterator[tuple[Mapping[str, str], float]]:
        """The series of a name that bear these labels: all their labels, and by how much they have grown."""
        return self._series.of(name, **labels)

    def sum(self, name: str, **labels: str) -> float:
        """By how much those have grown together."""
        return sum(count for _, count in self.of(name, **labels))

    def by(self, name: str, label: str, **labels: str) -> dict[str, float]:
        """By how much each has grown, by another of their labels."""
        return self._series.by(name, label, **labels)

    def names(self, name: str, label: str) -> list[str]:
        """The values that a label of a series has."""
        return self._series.names(name, label)


def grown(before: Mapping[str, float], now: Mapping[str, float], seconds: float) -> Grown:
    """The growth between two looks; what fell was counted anew, and has grown by what it is."""
    counts = {}
    for series, count in now.items():
        if series.partition("{")[0] in KEPT:
            more = count - before.get(series, 0.0)
            counts[series] = more if more >= 0 else count
    return Grown(seconds, counts)


def kept(counts: Mapping[str, float]) -> dict[str, float]:
    """Those counts that the next looks will compare with."""
    return {series: count for series, count in counts.items() if series.partition("{")[0] in KEPT}


def p95_ms(growth: Grown, operation: str, least: int) -> float | None:
    """The time within which 95 % of an operation's runs ended, in milliseconds; None where there were too few."""
    buckets = growth.by("memlane_operation_seconds_bucket", "le", operation=operation)
    if buckets.get("+Inf", 0.0) < least:
        return None
    found = quantile(_SHARE, buckets)
    return None if found is None else found * 1000


def share(part: float, whole: float, least: int) -> float | None:
    """A share in percent; None where the whole is too little to say."""
    return 100.0 * min(part, whole) / whole if whole >= least else None
