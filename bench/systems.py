"""Systems: what was measured of ours and of each peer, in one form."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from memlane.bench.cpu import since
from memlane.bench.figures import Percentiles, percentiles


class Row(StrEnum):
    """The calls of the latency table."""

    STORE_ONE = "store_one"
    """Until the call returns."""
    STORE_ONE_SEARCHABLE = "store_one_searchable"
    """Until it can be found by meaning; where a call returns only then, the same."""
    GET = "get"
    """One by its id."""
    SEARCH = "search"
    """Ten of an agent that has many, the question's embedding included."""
    SEARCH_BESIDE = "search_beside"
    """The same without that embedding."""
    BATCH_OF_100 = "batch_of_100"
    BATCH_OF_100_SEARCHABLE = "batch_of_100_searchable"
    SCAN = "scan"
    """All memories of an agent that has many."""


TARGETS_MS: Mapping[Row, float] = {
    Row.STORE_ONE: 10,
    Row.GET: 5,
    Row.SEARCH_BESIDE: 50,
    Row.BATCH_OF_100: 100,
    Row.SCAN: 200,
}
"""What users of such systems ask for; a question's embedding is the provider's time, and not in it."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is asked of each system.

    Attributes:
        memories: stored in each way that is made for many.
        one_by_one: stored by a single caller, one after the other.
        calls: of each kind, for the latencies.
        batches: of 100, for the latencies.
        agent_size: memories of the agent that is read.
        scans: of that agent.
    """

    memories: int
    one_by_one: int
    calls: int
    batches: int
    agent_size: int
    scans: int


FULL = Sizes(memories=2_000, one_by_one=300, calls=200, batches=20, agent_size=10_000, scans=30)
SHORT = Sizes(memories=200, one_by_one=20, calls=10, batches=2, agent_size=300, scans=2)


@dataclass(frozen=True, slots=True)
class Way:
    """A way to store many, and what came of it.

    Attributes:
        name: the call.
        side_by_side: how many callers, threads or processes.
        batch: memories in a call.
        memories: handed over.
        stored: of these, stored and searchable at the end.
        searchable_per_s: the same per second, from the first call until the last can be found by meaning.
        requests: to the provider.
        inputs: texts in them.
        cpu_s: CPU seconds of all that by what processes are; `client` is who calls, with all that runs in it.
    """

    name: str
    side_by_side: int
    batch: int
    memories: int
    stored: int
    searchable_per_s: float
    requests: int
    inputs: int
    cpu_s: Mapping[str, float] = field(default_factory=dict)

    def cpu_ms(self, kind: str | None = None) -> float:
        """CPU time per memory, of one kind of process or of all."""
        seconds = sum(self.cpu_s.values()) if kind is None else self.cpu_s.get(kind, 0.0)
        return 1000 * seconds / max(1, self.stored)


def way_of(
    name: str,
    shape: tuple[int, int],
    memories: tuple[int, int],
    took_s: float,
    asked: tuple[tuple[int, int], tuple[int, int]],
    cpu_s: tuple[Mapping[str, float], Mapping[str, float]],
) -> Way:
    """A way from what was counted before and after.

    Args:
        name: the call.
        shape: callers side by side, and memories in a call.
        memories: handed over, and of these searchable.
        took_s: until the last was.
        asked: requests and inputs of the provider, before and after.
        cpu_s: CPU seconds, before and after.
    """
    (requests, inputs), (requests_then, inputs_then) = asked
    per_s = round(memories[1] / took_s, 1)
    return Way(name, *shape, *memories, per_s, requests_then - requests, inputs_then - inputs, since(*cpu_s))


@dataclass(frozen=True, slots=True)
class Measured:
    """What a peer's process prints; with `failed`, nothing else."""

    versions: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()
    ways: Sequence[Way] = ()
    latency_ms: Mapping[Row, Sequence[float]] = field(default_factory=dict)
    failed: str | None = None


@dataclass(frozen=True, slots=True)
class System:
    """A system's figures; one that failed has a line that says how, and no figures.

    Attributes:
        name: of the system.
        versions: of its packages.
        notes: what the figures do not show.
        ways: how fast it stores.
        latency: of each call that it has.
        failed: why there are no figures.
    """

    name: str
    versions: Mapping[str, str]
    notes: Sequence[str]
    ways: Sequence[Way]
    latency: Mapping[Row, Percentiles]
    failed: str | None = None


def system(name: str, measured: Measured) -> System:
    """A peer's figures from what its process printed."""
    latency = {row: percentiles(times) for row, times in measured.latency_ms.items()}
    return System(name, measured.versions, measured.notes, measured.ways, latency, measured.failed)
