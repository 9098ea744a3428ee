"""The pulse: every few seconds a process says in control that it lives, how it is, and what it has done."""

import os
import socket
from collections.abc import Callable, Mapping
from threading import Event, Lock, Thread
from time import monotonic
from uuid import uuid4

import structlog

from memlane.errors import MemlaneError
from memlane.storage import processes
from memlane.storage.nodes import Node
from memlane.tasks.lane import Lane

log = structlog.get_logger(__name__)

BEAT = "beat"
"""The class of beats, which cannot speak for themselves: they have no database."""

_LAST_S = 3.0
"""How long a last beat is waited for before the good-bye, which it must not come after."""

_HEARD_S = 60.0
"""How long a beat is spoken for after its last message."""


class Pulse:
    """Beats from a thread of its own; make it after the fork. A control that is down is told nothing, and missed.

    Args:
        lane: this process's.
        name: the process's; no other has had it.
        class_: what it is.
        look: called before each beat, to bring the measures up to date.
    """

    def __init__(self, lane: Lane, name: str, class_: str, look: Callable[[], None] = lambda: None) -> None:
        self._lane = lane
        self._name = name
        self._class = class_
        self._look = look
        self._over = Event()
        self._heard: dict[str, float] = {}
        self._lock = Lock()
        self._failing = False
        self._told: Mapping[str, float] | None = None
        self._settled: Mapping[str, float] = {}
        """What is in the sums already: it was counted for us when we were given up as lost."""
        self._thread = Thread(target=self._run, name="pulse", daemon=True)

    def start(self) -> None:
        """Begin to beat."""
        self._thread.start()

    def heard(self, beat: str) -> None:
        """A message of a beat has come: it lives."""
        with self._lock:
            self._heard[beat] = monotonic()

    def gone(self, beat: str) -> None:
        """A beat has said good-bye: it is not missed."""
        with self._lock:
            self._heard.pop(beat, None)
        self._try(lambda: processes.gone(self._lane.cluster.control, beat, BEAT))

    def stop(self) -> None:
        """Say good-bye: who ends in good order is not missed."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join(_LAST_S)
        self._try(self._good_bye)

    def _run(self) -> None:
        while not self._over.is_set():
            self._try(self._beat)
            self._over.wait(self._lane.settings.pulse_s)

    def _try(self, work: Callable[[], None]) -> None:
        try:
            work()
        except MemlaneError as error:
            if not self._failing:
                self._failing = True
                log.warning("pulse.not_taken", why=str(error))
        except Exception:  # this thread has to live as long as its process
            log.exception("pulse.failed")
        else:
            self._failing = False

    def _beat(self) -> None:
        control = self._lane.cluster.control
        self._told = self._said(control)
        with self._lock:
            since = monotonic() - _HEARD_S
            self._heard = {beat: at for beat, at in self._heard.items() if at > since}
            ages = {beat: monotonic() - at for beat, at in self._heard.items()}
        if ages:
            processes.heard(control, BEAT, ages)

    def _said(self, control: Node) -> Mapping[str, float]:
        """Say how we are; the counts that were taken."""
        report = self._measured()
        if self._told is not None:
            if processes.beat(control, self._name, report):
                return report.counts
            self._settled = {key: self._settled.get(key, 0.0) + count for key, count in self._told.items()}
            report = self._measured()
        processes.begin(control, self._name, self._class, report)
        return report.counts

    def _good_bye(self) -> None:
        control = self._lane.cluster.control
        self._said(control)
        processes.end(control, self._name)

    def _measured(self) -> processes.Report:
        self._look()
        self._lane.measures.cache_entries("agents", len(self._lane.numbers))
        self._lane.caches.tell()
        for node in self._lane.cluster.nodes.values():
            self._lane.measures.pool(node.name, node.pool_stats())
        now = self._lane.measures.now()
        return processes.Report(now.gauges, {k: count - self._settled.get(k, 0.0) for k, count in now.counts.items()})


def new_name() -> str:
    """A name for this process that no other has had."""
    return f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex[:8]}"
