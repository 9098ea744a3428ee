"""Figures: percentiles, and on what machine, when, and under which promises they were measured."""

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from memlane import __version__
from memlane.contract.status import Status


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Of times in milliseconds."""

    p50: float
    p95: float
    p99: float
    max: float


@dataclass(frozen=True, slots=True)
class Rate:
    """How many a second.

    Attributes:
        per_s: of what is counted.
        count: how many there were.
        cpu_s: CPU seconds of all that by what processes are; `client` is the process that asks.
    """

    per_s: float
    count: int
    cpu_s: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Amount:
    """How much is asked beside what all systems are asked.

    Attributes:
        raw: memories by our SQL alone, and by COPY.
        tasks: empty Celery tasks.
        embedded: texts for each embedder.
        agent_sizes: memories of the agents that are asked.
        asked: questions to each of them.
        seconds: how long a paced load goes on.
        agents: how many are active at once.
        cached: values in each level of the caches.
    """

    raw: int
    tasks: int
    embedded: int
    agent_sizes: Sequence[int]
    asked: int
    seconds: float
    agents: int
    cached: int


MUCH = Amount(20_000, 3_000, 1_500, (100, 1_000, 10_000, 100_000), 200, 15.0, 10_000, 2_000)
LITTLE = Amount(1_000, 200, 64, (100, 1_000), 10, 2.0, 300, 100)


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What a figure depends on.

    Attributes:
        version: memlane's.
        at: when it was measured.
        machine: cores, memory and system, for people.
        cores: processors that the system has.
        memory_gb: of the machine.
        system: kernel and platform.
        python: ours.
        model: the embedding model.
        durability: what the live servers say that they keep: all have to be on for a figure to count.
    """

    version: str
    at: datetime
    machine: str
    cores: int
    memory_gb: float
    system: str
    python: str
    model: str
    durability: Mapping[str, str]


def percentiles(times_ms: Sequence[float]) -> Percentiles:
    """The percentiles, by nearest rank."""
    ordered = sorted(times_ms)

    def rank(share: float) -> float:
        return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 2)

    return Percentiles(rank(0.5), rank(0.95), rank(0.99), round(ordered[-1], 2))


def circumstances(status: Status) -> Circumstances:
    """What holds now, as read from the live servers."""
    durability = {
        f"{node.name} {name}": value
        for node in status.nodes
        for name, value in node.settings.items()
        if name != "server_version"
    }
    durability |= {f"redis {name}": value for name, value in status.broker.settings.items()}
    cores = os.cpu_count() or 1
    gigabytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return Circumstances(
        version=__version__,
        at=datetime.now(UTC).replace(microsecond=0),
        machine=f"{cores} cores, {gigabytes:.0f} GB, {platform.system()} {platform.machine()}",
        cores=cores,
        memory_gb=round(gigabytes, 1),
        system=platform.platform(),
        python=platform.python_version(),
        model=status.model,
        durability=durability,
    )
