"""Prometheus series of the ledger, and of how much is cached: what the shards said when they were asked last."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from memlane.contract import Ledger


class Accounts(Collector):
    """Sums over all shards; none before all of them have answered once."""

    def __init__(self) -> None:
        self.ledger: Ledger | None = None
        """The sums of all tenants."""
        self.cached: int | None = None
        """About how many embeddings the shards keep."""

    def collect(self) -> Iterator[Metric]:
        """The series, as Prometheus asks for them."""
        events = CounterMetricFamily("memlane_ledger_events", "What the ledger counts, by event.", labels=["event"])
        difference = GaugeMetricFamily(
            "memlane_ledger_difference", "Accepted, less stored, dropped, parked and open: 0, or something is wrong."
        )
        cached = GaugeMetricFamily("memlane_embedding_cache_rows", "Embeddings that the shards keep, estimated.")
        if self.ledger is not None:
            for event, count in self.ledger.events.items():
                events.add_metric([event.value], count)
            difference.add_metric([], self.ledger.difference)
        if self.cached is not None:
            cached.add_metric([], self.cached)
        yield from (events, difference, cached)
