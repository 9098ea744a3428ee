"""What the duties cost: their share of the CPU seconds of all that runs, while memories are taken in."""

from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from threading import Event, Thread
from time import monotonic
from typing import Self

import psutil
import psycopg

from memlane.admin import Admin
from memlane.bench.bare import Bare
from memlane.bench.ingest import Load, bench_ingest
from memlane.bench.servers import Servers, servers
from memlane.storage.connections import UNHURRIED

TARGET_PERCENT = 5.0

_CLASSES = ("upkeep", "maintenance", "sweep")
"""The workers that do duties, and little else; what they do for forget and optimize jobs is counted as well."""

_BACKENDS = "SELECT pid FROM pg_stat_activity WHERE application_name = ANY(%s)"


@dataclass(frozen=True, slots=True)
class DutiesShare:
    """CPU seconds of a run of ingest.

    Attributes:
        memories: that were made searchable.
        seconds: that it took.
        all_s: CPU seconds of all processes of the stack.
        duties_s: of beats, of the workers that do duties, and of their sessions in Postgres.
        runs: how often each duty ran in that time.
    """

    memories: int
    seconds: float
    all_s: float
    duties_s: float
    runs: Mapping[str, int]

    @property
    def percent(self) -> float:
        """The duties' share."""
        return round(100 * self.duties_s / self.all_s, 2)

    @property
    def good(self) -> bool:
        """Whether that is little enough."""
        return self.percent < TARGET_PERCENT


class _Sessions:
    """CPU seconds of the duties' sessions in Postgres; each is looked at until it ends."""

    def __init__(self, uri: str) -> None:
        self._connection = psycopg.connect(uri, autocommit=True)
        self._first: dict[int, float] = {}
        self._last: dict[int, float] = {}
        self._over = Event()
        self._thread = Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._look(begins=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._look()
        self._connection.close()

    @property
    def seconds(self) -> float:
        """What they took while it was looked."""
        return sum(last - self._first.get(pid, 0.0) for pid, last in self._last.items())

    def _run(self) -> None:
        while not self._over.wait(0.25):
            self._look()

    def _look(self, *, begins: bool = False) -> None:
        names = [*(f"memlane {name}" for name in _CLASSES), UNHURRIED]
        for (pid,) in self._connection.execute(_BACKENDS, (names,)).fetchall():
            try:
                self._last[pid] = sum(psutil.Process(pid).cpu_times()[:2])
            except psutil.NoSuchProcess:
                continue
            if begins:
                self._first[pid] = self._last[pid]


def measure(_bare: Bare, *, short: bool, progress: Callable[[str], None]) -> DutiesShare:
    """Take memories in for so long that each duty but the hourly ones runs, and see what of the work was theirs."""
    with servers(50) as here:
        found = _measured(here, 60.0 if short else 660.0)
    progress(f"duties are {found.percent} % of {found.all_s} CPU seconds")
    return found


def _measured(here: Servers, seconds: float) -> DutiesShare:
    load = Load(5_000, 100, 100, 4, here.provider)
    url, key = here.url, here.secrets.tenant_key
    begun, memories = monotonic(), 0
    before_all, before = _cpu_s(here), _cpu_s(here, duties=True)
    with closing(Admin(url, here.secrets.admin_key)) as admin, _Sessions(here.postgres("memlane")) as sessions:
        while monotonic() - begun < seconds:
            bench_ingest(url, key, admin, load, lambda _: None)
            memories += load.memories
        took = monotonic() - begun
        all_s = _cpu_s(here) - before_all
        duties_s = _cpu_s(here, duties=True) - before
    duties_s += sessions.seconds
    return DutiesShare(memories, round(took, 1), round(all_s, 1), round(duties_s, 2), _runs(here, took))


def _runs(here: Servers, seconds: float) -> dict[str, int]:
    with psycopg.connect(here.postgres("memlane")) as connection:
        rows = connection.execute(
            "SELECT name, count(*) FROM control.ticks WHERE claimed_at > now() - make_interval(secs => %s) "
            "GROUP BY name ORDER BY name",
            (seconds,),
        )
        return dict(rows)


def _cpu_s(here: Servers, *, duties: bool = False) -> float:
    """User and system, of all processes of a stack, or of those that do duties, and of their children that ended."""
    wanted = ("beat", *(f"worker-{name}" for name in _CLASSES)) if duties else ""
    processes = [psutil.Process(one.pid) for one in here.state.processes if one.name.startswith(wanted)]
    times = [one.cpu_times() for parent in processes for one in (parent, *parent.children(recursive=True))]
    return float(sum(sum(time[:4]) for time in times))


def report(found: DutiesShare) -> str:
    """For people, in Markdown."""
    runs = ", ".join(f"{name} {count}" for name, count in found.runs.items())
    return (
        f"While {found.memories:,} memories were taken in within {found.seconds} s, all processes together took "
        f"{found.all_s} CPU seconds, beats, workers that do duties and their sessions in Postgres {found.duties_s}: "
        f"{found.percent} % (target {TARGET_PERCENT:g} %). Runs: {runs}."
    )
