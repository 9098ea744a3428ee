"""The report of a comparison: tables in Markdown, which are as readable in a terminal, and what they rest on."""

from collections.abc import Iterator, Mapping, Sequence

from memlane.bench import goals
from memlane.bench.comparison import Comparison
from memlane.bench.figures import Percentiles
from memlane.bench.output import told
from memlane.bench.sections import NONE, cpu, sections, times
from memlane.bench.systems import SHORT, Row, Sizes, System
from memlane.bench.table import table

_NAMES = {"mem0": "mem0", "langgraph": "LangGraph", "naive_celery": "naive Celery"}


def report(found: Comparison) -> str:
    """Everything, for people."""
    provider, dims = found.provider["latency_ms"], found.provider["dims"]
    parts = [
        f"Stored and searchable, with {provider:g} ms per request to the provider and {dims:g} dimensions:",
        table(_WAYS, list(_ways(found.systems))),
        "\n".join(_ratios(found.systems)),
        f"Latency in ms, p50 / p95 / p99 of {_samples(found.sizes)}; within: which of memlane's meet the target:",
        table(*_latency(found)),
        "\n".join(_recall(found)),
        *sections(found),
        *(cpu(system) for system in found.systems if any(way.cpu_s for way in system.ways)),
        "The goals, and what was reached:",
        goals.report(found),
        "\n".join(f"- {_name(system)}: {note}" for system in found.systems for note in system.notes),
        _circumstances(found),
    ]
    if found.sizes == SHORT:
        parts.insert(0, "A short run, which shows that everything works; its figures say little.")
    return "\n\n".join(parts) + "\n"


_WAYS = ("system", "way", "side by side", "batch", "memories", "memories/s", "requests", "inputs")


def _ways(systems: Sequence[System]) -> Iterator[Sequence[str]]:
    for system in systems:
        if system.failed:
            yield (_name(system), f"failed: {system.failed}", *[NONE] * (len(_WAYS) - 2))
        for way in system.ways:
            lost = way.memories - way.stored
            yield (
                _name(system),
                way.name,
                str(way.side_by_side),
                str(way.batch),
                f"{way.memories:,}" + (f", {lost:,} lost" if lost else ""),
                f"{way.searchable_per_s:,.0f}",
                f"{way.requests:,}",
                f"{way.inputs:,}",
            )


def _ratios(systems: Sequence[System]) -> Iterator[str]:
    """The best way of ours to the best of each."""
    ours, *peers = ({way.searchable_per_s for way in system.ways} for system in systems)
    for system, peer in zip(systems[1:], peers, strict=True):
        if peer:
            yield f"- the best of memlane is {max(ours) / max(peer):.1f} times the best of {_name(system)}"


def _latency(found: Comparison) -> tuple[Sequence[str], Sequence[Sequence[str]]]:
    ours, *peers = found.systems
    header = ("call", "target", "memlane", "within", *(_name(peer) for peer in peers))
    rows = [
        (
            label,
            f"{found.targets_ms[row]:g}" if row in found.targets_ms else NONE,
            _times(ours.latency.get(row)),
            _within(ours.latency.get(row), found.targets_ms.get(row)),
            *("failed" if peer.failed else _times(peer.latency.get(row)) for peer in peers),
        )
        for row, label in _labels(found.sizes).items()
    ]
    return header, rows


def _samples(sizes: Sizes) -> str:
    return f"{sizes.calls} calls, {sizes.batches} batches and {sizes.scans} scans"


def _labels(sizes: Sizes) -> Mapping[Row, str]:
    return {
        Row.STORE_ONE: "store one, until the call returns",
        Row.STORE_ONE_SEARCHABLE: "store one, until searchable",
        Row.GET: "get by id",
        Row.SEARCH: f"search in {sizes.agent_size:,}, with the question's embedding",
        Row.SEARCH_BESIDE: f"search in {sizes.agent_size:,}, beside it",
        Row.BATCH_OF_100: "batch of 100, until the call returns",
        Row.BATCH_OF_100_SEARCHABLE: "batch of 100, until searchable",
        Row.SCAN: f"scan of {sizes.agent_size:,}",
    }


def _times(found: Percentiles | None) -> str:
    return times(found) if found else NONE


def _within(found: Percentiles | None, target_ms: float | None) -> str:
    if found is None or target_ms is None:
        return NONE
    met = [name for name in ("p99", "p95", "p50") if getattr(found, name) <= target_ms]
    return f"up to {met[0]}" if met else "none"


def _recall(found: Comparison) -> Iterator[str]:
    yield "memlane's search beside the question's embedding, by the agent's size:"
    yield ""
    for figures in found.recall:
        yield f"- {figures.memories:,} memories: {_times(figures.beside_ms)} ms"


def _circumstances(found: Comparison) -> str:
    machine, servers, durability = told(found.circumstances, found.versions)
    packages = (f"- {_name(system)}: {_packages(system)}" for system in found.systems if system.versions)
    return "\n".join([f"{machine}; commit {found.commit or 'unknown'}", servers, *packages, durability])


def _packages(system: System) -> str:
    return ", ".join(f"{name} {version}" for name, version in system.versions.items())


def _name(system: System) -> str:
    return _NAMES.get(system.name, system.name)
