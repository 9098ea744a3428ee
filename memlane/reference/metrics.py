"""The series of /metrics as a page: each with its type, its labels, its meaning, and of whom it tells."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from prometheus_client import CollectorRegistry
from prometheus_client.registry import Collector

from memlane.gateway.metrics import Metrics
from memlane.gateway.together import Together
from memlane.reference.markdown import code, page, table
from memlane.tasks.measures import Measures

_HEAD = """# Metrics

What a gateway's `GET /metrics` tells Prometheus; [monitoring](../howto/monitoring.md) shows what to do with it. No
series names a tenant or an agent."""

_PARTS = (
    """A histogram is three series: its name with `_bucket` (and the label `le`), with `_sum`, and with `_count`."""
)


class Source(StrEnum):
    """Of whom a series tells."""

    TOGETHER = "All processes together"
    SYSTEM = "The system as a whole"
    GATEWAY = "This gateway"


_SAID = {
    Source.TOGETHER: "What workers, gateways and beats say of themselves every few seconds, added up; the counts of "
    "processes that are gone stay. Every gateway tells the same: with several of them take one, such as with `max "
    "without (instance, job)`, never their sum.",
    Source.SYSTEM: "What shards and control say when they are asked, in the background: every five seconds, the "
    "ledger every 15 minutes. Every gateway tells the same here, too.",
    Source.GATEWAY: "What this process has done at its door since it began: of several gateways add them up.",
}

_OWN = ("memlane_requests", "memlane_request_seconds", "memlane_items", "memlane_limited", "memlane_rates_shared")
"""What a gateway tells of itself alone."""

_OF_CONTROL = ("memlane_processes", "memlane_processes_lost")
"""What is made of all processes' words beside their own series."""


@dataclass(frozen=True, slots=True)
class Family:
    """A series with all its labels.

    Attributes:
        name: as rules name it, without what a histogram's parts end in.
        type: counter, gauge or histogram.
        labels: their names.
        meaning: what it tells.
        source: of whom.
    """

    name: str
    type: str
    labels: tuple[str, ...]
    meaning: str
    source: Source

    @property
    def series(self) -> dict[str, tuple[str, ...]]:
        """The names of its samples, each with its labels."""
        if self.type != "histogram":
            return {self.name: self.labels}
        parts = {f"{self.name}{end}": self.labels for end in ("_sum", "_count")}
        return {**parts, f"{self.name}_bucket": (*self.labels, "le")}


def families() -> list[Family]:
    """All series that a gateway tells, also those that nothing was counted for yet."""
    found = [
        *_families(Metrics().registry),
        *(_family(name, type_, labels, meaning, Source.TOGETHER) for name, type_, labels, meaning in _measured()),
    ]
    return sorted(found, key=lambda family: (list(Source).index(family.source), family.name))


def metrics_page() -> str:
    """The page: a table for each source."""
    parts = []
    for source in Source:
        rows = [
            (code(family.name), family.type, ", ".join(map(code, family.labels)), family.meaning)
            for family in families()
            if family.source is source
        ]
        parts += [f"## {source}", _SAID[source], table(("series", "type", "labels", "meaning"), rows)]
    return page(_HEAD, _PARTS, *parts)


def _families(registry: CollectorRegistry) -> Iterator[Family]:
    """What a gateway tells beside the sums of all processes' own series."""
    measured = {name for name, *_ in _measured()}
    for collector in _collectors(registry):
        for metric in collector.collect():
            if metric.name in measured:
                continue
            labels = tuple(getattr(collector, "_labelnames", ()) or getattr(metric, "_labelnames", ()))
            source = Source.SYSTEM
            if isinstance(collector, Together) or metric.name in _OF_CONTROL:
                source = Source.TOGETHER
            elif metric.name in _OWN:
                source = Source.GATEWAY
            yield _family(metric.name, metric.type, labels, metric.documentation, source)


def _measured() -> list[tuple[str, str, tuple[str, ...], str]]:
    """What every process counts of its own work."""
    return [
        (metric.name, metric.type, tuple(getattr(collector, "_labelnames", ())), metric.documentation)
        for collector in _collectors(Measures("gateway").registry)
        for metric in collector.collect()
    ]


def _collectors(registry: CollectorRegistry) -> list[Collector]:
    """What is registered; the library tells samples to everybody, but labels only to who asks a series itself."""
    return list(registry._collector_to_names)  # noqa: SLF001


def _family(name: str, type_: str, labels: tuple[str, ...], meaning: str, source: Source) -> Family:
    return Family(f"{name}_total" if type_ == "counter" else name, type_, labels, meaning, source)
