"""Prometheus series of health: scores, incidents, advice, how duties and indexes do; what control said before stays."""

from collections.abc import Container, Iterator, Mapping
from time import monotonic

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from memlane.contract.health import Health, Level, Scaling
from memlane.storage import incidents, indexes, reports, ticks
from memlane.storage.indexes import Told
from memlane.storage.nodes import Node
from memlane.storage.ticks import Runs


class Healthy(Collector):
    """What control said when it was asked last."""

    def __init__(self) -> None:
        self._health: Health | None = None
        self._incidents: Mapping[Level, int] = {}
        self._runs: Mapping[str, Runs] = {}
        self._indexes: Mapping[int, Told] = {}
        self._asked_at = 0.0

    def look(self, control: Node, duties: Container[str]) -> None:
        """Ask control.

        Args:
            control: where everything is kept.
            duties: those that are due; others have no series.

        Raises:
            Unavailable: it does not answer; what it said before stays.
        """
        last = reports.newest(control)
        self._health = last.health if last is not None else None
        self._incidents = incidents.counts(control)
        self._runs = {name: runs for name, runs in ticks.runs(control).items() if name in duties}
        self._indexes = indexes.told(control)
        self._asked_at = monotonic()

    def collect(self) -> Iterator[Metric]:
        """The series, as Prometheus asks for them."""
        yield from self._scores()
        yield from self._duties()
        yield from self._of_indexes()

    def _scores(self) -> Iterator[Metric]:
        score = _gauge("health_score", "The score of each component, 0 to 100.", "component")
        advised = _gauge("scaling_advice", "What would help against a trend: 1 if it would.", "advice")
        level = _gauge("incidents", "Incidents that go on, by level.", "level")
        overall = GaugeMetricFamily("memlane_health_overall", "The score of the whole, 0 to 100.")
        for name, count in self._incidents.items():
            level.add_metric([name.value], count)
        if self._health is not None:
            overall.add_metric([], self._health.score)
            for part in self._health.components:
                score.add_metric([part.name], part.score)
            given = {one.advice for one in self._health.advice}
            for advice in Scaling:
                advised.add_metric([advice.value], advice in given)
        yield from (score, overall, level, advised)

    def _duties(self) -> Iterator[Metric]:
        meaning = "Time since each duty last ended well; since it first began, if it never did."
        last = _gauge("duty_last_seconds", meaning, "duty")
        outcomes = _gauge("duty_outcomes", "Runs of the last 24 hours, by how they ended.", "duty", "outcome")
        for duty, runs in self._runs.items():
            since_s = runs.since_first_s if runs.since_good_s is None else runs.since_good_s
            last.add_metric([duty], max(0.0, since_s) + monotonic() - self._asked_at)
            for outcome, count in runs.outcomes.items():
                outcomes.add_metric([duty, outcome], count)
        yield from (last, outcomes)

    def _of_indexes(self) -> Iterator[Metric]:
        """Those of large agents, by shard; no series names an agent."""
        count = _gauge("indexes", "Indexes of large agents.", "shard")
        size = _gauge("index_bytes", "What the indexes of large agents take.", "shard")
        recall = _gauge("index_recall", "The lowest recall@10 of a large agent's index against exact search.", "shard")
        for shard, told in self._indexes.items():
            count.add_metric([str(shard)], told.indexes)
            size.add_metric([str(shard)], told.bytes)
            if told.recall is not None:
                recall.add_metric([str(shard)], told.recall)
        yield from (count, size, recall)


def _gauge(name: str, meaning: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"memlane_{name}", meaning, labels=labels)
