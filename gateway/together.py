"""Prometheus series of all processes together: workers, gateways and beats, as control heard of them last.

What processes have done is added up, those that are gone included; how they are is added up over those that live.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from memlane.storage import processes
from memlane.storage.nodes import Node
from memlane.storage.processes import Process
from memlane.tasks.health.processes import unreplaced
from memlane.tasks.measures import Measures
from memlane.tasks.series import parsed

_SUFFIXES = {"histogram": ("_bucket", "_sum", "_count"), "counter": ("_total",), "gauge": ("",)}
"""What the samples of a family are called, after its name."""

_LARGEST = ("memlane_memory_percent", "memlane_throttle_level")
"""Of these gauges the largest counts, not the sum."""


class Together(Collector):
    """What control said when it was asked last."""

    def __init__(self) -> None:
        self._families = [(one.name, one.documentation, one.type) for one in Measures("gateway").registry.collect()]
        self._known = {name + suffix: name for name, _, type_ in self._families for suffix in _SUFFIXES[type_]}
        self._values: Mapping[str, float] = {}
        self._living: Mapping[str, int] = {}
        self._lost: Mapping[str, int] = {}

    def look(self, control: Node, lost_s: float) -> None:
        """Ask control.

        Args:
            control: where processes say how they are.
            lost_s: after how long without a word one does not live any more.

        Raises:
            Unavailable: it does not answer; what it said before stays.
        """
        counts, found = processes.counts(control), processes.living(control)
        living = [process for process in found if process.lives(lost_s)]
        self._values = {**counts, **together(process.gauges for process in living)}
        self._living = _by_class(living)
        classes = {process.class_ for process in found}
        of_each = ([process for process in found if process.class_ == class_] for class_ in classes)
        self._lost = _by_class([lost for mine in of_each for lost in unreplaced(mine, lost_s)])

    def collect(self) -> Iterator[Metric]:
        """The series, as Prometheus asks for them; those that only newer processes know are left out."""
        families = {name: Metric(name, meaning, type_) for name, meaning, type_ in self._families}
        for key, value in self._values.items():
            name, labels = parsed(key)
            if name in self._known:
                families[self._known[name]].add_sample(name, labels, value)
        yield from families.values()
        yield _per_class("memlane_processes", "Processes that live, by class.", self._living)
        yield _per_class("memlane_processes_lost", "Processes that were lost and not replaced.", self._lost)


def together(gauges: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """How several processes are: each gauge added up, or its largest where a sum says nothing."""
    found: dict[str, float] = {}
    for one in gauges:
        for key, value in one.items():
            if key.startswith(_LARGEST):
                found[key] = max(found.get(key, value), value)
            else:
                found[key] = found.get(key, 0.0) + value
    return found


def _by_class(found: Sequence[Process]) -> dict[str, int]:
    return dict(Counter(process.class_ for process in found))


def _per_class(name: str, meaning: str, counts: Mapping[str, int]) -> Metric:
    family = GaugeMetricFamily(name, meaning, labels=["class"])
    for class_, count in counts.items():
        family.add_metric([class_], count)
    return family
