"""Prometheus series of money: what was asked of providers, what it cost and saved; by model alone."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from datetime import date

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from memlane.storage import budgets, usage
from memlane.storage.nodes import Node
from memlane.storage.usage import Sums

_MEANINGS = {
    "requests": "Requests to embeddings providers.",
    "failed": "Requests to embeddings providers that brought nothing.",
    "texts": "Texts that were sent to embeddings providers.",
    "tokens": "Tokens that embeddings providers charged.",
    "cost_dollars": "What embeddings cost, in dollars.",
    "saved_texts": "Texts that needed not be sent: cached, or twice in a batch.",
    "saved_tokens": "Tokens that needed not be charged.",
    "saved_dollars": "What needed not be paid, in dollars.",
    "saved_requests": "How many more requests there would have been with one for each text.",
}


class Spent(Collector):
    """What control said when it was asked last. Days that are over for good are added up once."""

    def __init__(self) -> None:
        self._until: date | None = None
        self._over: Mapping[str, Sums] = {}
        self._sums: Mapping[str, Sums] = {}
        self._reached: Mapping[int, int] = {}

    def look(self, control: Node, percents: tuple[int, ...]) -> None:
        """Ask control.

        Args:
            control: where usage and budgets are kept.
            percents: the shares of a budget that are told apart.

        Raises:
            Unavailable: it does not answer; what it said before stays.
        """
        day = usage.yesterday(control)
        if day != self._until:
            self._over, self._until = usage.by_model(control, before=day), day
        now = usage.by_model(control, since=day)
        self._sums = {model: self._summed(model, now) for model in sorted({*self._over, *now})}
        self._reached = budgets.reached(control, percents)

    def _summed(self, model: str, now: Mapping[str, Sums]) -> Sums:
        """All of a model. A text that took several requests takes from what was saved, but a counter only grows."""
        nothing = Sums()
        found = self._over.get(model, nothing) + now.get(model, nothing)
        before = self._sums.get(model, nothing).saved_requests
        return replace(found, saved_requests=max(before, found.saved_requests))

    def collect(self) -> Iterator[Metric]:
        """The series, as Prometheus asks for them."""
        for name, meaning in _MEANINGS.items():
            series = CounterMetricFamily(f"memlane_embedding_{name}", meaning, labels=["model"])
            for model, sums in self._sums.items():
                series.add_metric([model], asdict(sums)[name])
            yield series
        reached = GaugeMetricFamily(
            "memlane_budgets", "Budgets by the share that is spent, in percent.", labels=["reached"]
        )
        for percent, count in self._reached.items():
            reached.add_metric([str(percent)], count)
        yield reached
