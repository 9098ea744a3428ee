"""The processes' memory and processor time, and their connections to nodes."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet

from memlane.config.settings import Settings, WorkerClassName
from memlane.contract.health import Component, Finding, Severity, component
from memlane.storage.processes import Process
from memlane.tasks.health.facts import ControlFacts, Facts, NodeFacts
from memlane.tasks.health.queue import ingest_waits_s
from memlane.tasks.health.rates import Grown
from memlane.tasks.series import Series

_TOLD_S = 30.0
"""How much later than it happened a process may tell that calls got no connection."""


def judge(facts: Facts, growth: Grown | None, settings: Settings) -> Component:
    """Whether processes have the memory and the processor time that they need."""
    if facts.control is None:
        return component("resources", (), known=False)
    living = _living(facts.control, settings)
    waits = ingest_waits_s(facts) > settings.queue_warn_s
    return component("resources", [*_memory(living, settings), *_cpu(living, growth, settings, waits)])


def judge_pools(facts: Facts, growth: Grown | None, settings: Settings) -> Component:
    """Whether calls get a connection to their node in time; that one has failed meanwhile is said of the node."""
    if facts.control is None:
        return component("pools", (), known=False)
    seconds = growth.seconds + _TOLD_S if growth is not None else 0.0
    failed = {name for name, node in facts.nodes.items() if node.steady_s < seconds or not _up(node)}
    return component("pools", _pools(_living(facts.control, settings), growth, failed))


def _up(node: NodeFacts) -> bool:
    return node.status is not None and node.status.up


def _living(control: ControlFacts, settings: Settings) -> list[Process]:
    return [process for process in control.processes if process.silent_s < settings.lost_s]


def _memory(living: Sequence[Process], settings: Settings) -> Iterator[Finding]:
    fullest: dict[str, float] = {}
    for labels, percent in _gauges(living, "memlane_memory_percent"):
        fullest[labels["class"]] = max(percent, fullest.get(labels["class"], 0.0))
    for name, percent in fullest.items():
        if percent >= settings.memory_warn_percent:
            severity = Severity.ERROR if percent >= settings.memory_stop_percent else Severity.WARNING
            reason = f"the fullest uses {percent:.0f} % of the memory that it may have"
            advice = "give it more memory, or fewer processes to a machine; smaller MEMLANE_CLAIM_SIZE needs less"
            yield Finding(f"memory of {name}", severity, reason, advice)


def _cpu(living: Sequence[Process], growth: Grown | None, settings: Settings, waits: bool) -> Iterator[Finding]:
    """Ingest workers that embed use all that they get: that is a warning only where work waits for it."""
    if growth is None:
        return
    for name, processes in Counter(process.class_ for process in living).items():
        seconds = growth.sum("memlane_cpu_seconds_total", **{"class": name})
        percent = 100.0 * seconds / (growth.seconds * processes)
        if percent >= settings.cpu_warn_percent:
            most = percent >= settings.cpu_most_percent and (waits or name != WorkerClassName.INGEST)
            reason = f"each uses {percent:.0f} % of a core"
            advice = f"add {name} processes, on further cores; memlane status says whether work waits"
            yield Finding(f"processor of {name}", Severity.WARNING if most else Severity.NOTICE, reason, advice)


def _pools(living: Sequence[Process], growth: Grown | None, failed: AbstractSet[str]) -> Iterator[Finding]:
    waiting: Counter[str] = Counter()
    for labels, calls in _gauges(living, "memlane_pool_waiting"):
        waiting[labels["node"]] += int(calls)
    exhausted: Counter[str] = Counter()
    for labels, calls in growth.of("memlane_pool_exhausted_total") if growth else ():
        exhausted[labels["node"]] += int(calls)
    advice = "raise MEMLANE_POOL_SIZE and MEMLANE_GATEWAY_THREADS; Postgres' max_connections has to allow it"
    for node in sorted({*waiting, *exhausted} - failed):
        if exhausted[node]:
            reason = f"{exhausted[node]} calls got no connection in time"
            yield Finding(f"connections to {node}", Severity.WARNING, reason, advice)
        elif waiting[node]:
            reason = f"{waiting[node]} calls wait for a connection"
            yield Finding(f"connections to {node}", Severity.NOTICE, reason, advice)


def _gauges(living: Sequence[Process], name: str) -> Iterator[tuple[Mapping[str, str], float]]:
    for process in living:
        yield from Series(process.gauges).of(name)
