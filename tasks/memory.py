"""Memory: how much this process holds of what it may, and its container, or the machine, of what there is."""

import ctypes
import gc
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from time import monotonic

import psutil
import structlog

log = structlog.get_logger(__name__)

_CGROUPS = Path("/sys/fs/cgroup")

_OWN = Path("/proc/self/cgroup")

_EVERY_S = 0.25
"""How long what the container holds is taken as known; what the process holds is one read of /proc, 0.01 ms."""


@dataclass(frozen=True, slots=True)
class Use:
    """How much is held, in percent.

    Attributes:
        own: this process, of what it may hold.
        around: its container, of its limit; without one the machine, of its memory.
    """

    own: float
    around: float

    @property
    def percent(self) -> float:
        """The larger one, which counts."""
        return max(self.own, self.around)


class Gauge:
    """Measures; make it after the fork, when all is loaded.

    A limit that leaves no room to work in is raised: a worker that does nothing takes others' messages for nothing.

    Args:
        limit_bytes: what this process may hold.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._process = psutil.Process()
        held = self._process.memory_info().rss
        self._limit_bytes = max(limit_bytes, held * 4 // 3)
        if self._limit_bytes > limit_bytes:
            log.error("memory.limit_too_small", setting="MEMLANE_CHILD_MEMORY_MB", taken_mb=self._limit_bytes // 2**20)
        self._container = container()
        self._around = -1.0, 0.0

    def use(self) -> Use:
        """What is held now."""
        own = 100 * self._process.memory_info().rss / self._limit_bytes
        now = monotonic()
        if now - self._around[0] > _EVERY_S or self._around[0] < 0:
            self._around = now, held_of(self._container)
        return Use(own, self._around[1])


@dataclass(frozen=True, slots=True)
class Container:
    """A control group with a limit.

    Attributes:
        limit_bytes: what its processes may hold together.
        used: the file that says what they do.
        stat: the file that says what of it the kernel takes back when it is needed, and under which name.
    """

    limit_bytes: int
    used: Path
    stat: Path
    inactive: str

    def percent(self) -> float:
        """What is held of the limit, without files that were read once: the kernel drops those first."""
        try:
            held = int(self.used.read_text())
            found = dict(line.split() for line in self.stat.read_text().splitlines())
        except (OSError, ValueError):  # it was taken away, or moved
            return psutil.virtual_memory().percent
        return 100 * max(0, held - int(found.get(self.inactive, 0))) / self.limit_bytes


def container(own: Path = _OWN, root: Path = _CGROUPS) -> Container | None:
    """The control group around this process whose limit is the smallest; None if none has one, or there are none.

    Args:
        own: the file that names those of this process, as in cgroups(7).
        root: where they are mounted.
    """
    found = [one for one in _groups(own, root) if one.limit_bytes < psutil.virtual_memory().total]
    return min(found, key=lambda one: one.limit_bytes, default=None)


def _groups(own: Path, root: Path) -> Iterator[Container]:
    """The groups around this process that name a limit: of version 2, and of version 1."""
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, kinds, path = line.split(":", 2)
        if kinds == "":
            for place in _upwards(root, path):
                yield from _limited(place, "memory.max", "memory.current", "inactive_file")
        elif "memory" in kinds.split(","):
            for place in _upwards(root / "memory", path):
                yield from _limited(place, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


def _upwards(root: Path, path: str) -> Iterator[Path]:
    """A group and those around it; inside a container its path may not be there, and the root is its own."""
    parts = [part for part in path.split("/") if part not in ("", "..")]
    for length in range(len(parts), -1, -1):
        yield root.joinpath(*parts[:length])


def _limited(place: Path, limit: str, used: str, inactive: str) -> Iterator[Container]:
    try:
        yield Container(int((place / limit).read_text()), place / used, place / "memory.stat", inactive)
    except (OSError, ValueError):  # it is not there, or says "max"
        return


def held_of(around: Container | None) -> float:
    """How much is held of what a container may hold, or else of the machine's memory, in percent."""
    return around.percent() if around else psutil.virtual_memory().percent


def give_back() -> None:
    """Collect what nobody refers to, and have the C library give free memory back to the system, where it can."""
    gc.collect()
    if trim := _trim():
        trim(0)


@cache
def _trim() -> "ctypes._NamedFuncPointer | None":
    """malloc_trim(3), which glibc has."""
    return getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
