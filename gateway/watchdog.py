"""The watchdog: looks at the whole where the duty cannot: while control or the broker is down, or no report comes.

It looks itself when control does not answer; when the last report is older than `watchdog_s`; and, if nobody has looked
just now, when the broker does not answer or something is critical, so that it is soon seen when that is over. With
control there it does what the duty does, so that several gateways tell a thing once; without it, it keeps what it finds
in its own memory. It tells what nobody else has told in `watchdog_s`: the worker that should may be down, or busy. A
gateway that has just begun waits for a first report, or until one should have come.
"""

from threading import Event, Thread
from time import monotonic

import structlog

from memlane.beat import health, incidents
from memlane.beat.duties import due
from memlane.contract.health import Band, Health, Level
from memlane.errors import MemlaneError
from memlane.gateway.meanwhile import Meanwhile
from memlane.storage import reports
from memlane.storage.reports import Last
from memlane.tasks.health.asking import ANSWER_S
from memlane.tasks.health.look import Look, look
from memlane.tasks.lane import Lane

log = structlog.get_logger(__name__)

EVERY_S = 10.0
"""How often it is looked whether somebody looks."""

_LAST_S = 3.0
"""How long a round that goes on is waited for at the end."""


class Watchdog:
    """Watches from a thread of its own.

    Args:
        lane: the gateway's.
        every_s: how often it is looked whether somebody looks.
    """

    def __init__(self, lane: Lane, every_s: float = EVERY_S) -> None:
        self._lane = lane
        self._every_s = every_s
        self._begun_at = monotonic()
        self._armed = False
        self._over = Event()
        self._meanwhile = Meanwhile(lane.settings)
        self._thread = Thread(target=self._run, name="watchdog", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def stop(self) -> None:
        """End; a round that goes on is left to itself."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join(_LAST_S)

    def _run(self) -> None:
        while not self._over.wait(self._every_s):
            try:
                self.watch()
            except MemlaneError as error:
                log.warning("watchdog.refused", why=str(error))
            except Exception:  # this thread has to live as long as its process
                log.exception("watchdog.failed")

    def watch(self) -> None:
        """Look whether somebody looks; if not, look.

        Raises:
            MemlaneError: control went away meanwhile; the next round sees that.
        """
        found = self._lane.asking.begin("last report", self._last).wait(monotonic() + ANSWER_S)
        last = found[0] if found is not None else None
        if not self._armed and not self._arms(last):
            return
        looked = last is not None and self._somebody_looks(last)
        if not (looked and self._meanwhile.empty):
            seen = look(self._lane, due(self._lane.settings))
            if seen.with_control:
                self._with_control(seen, looked)
            else:
                self._meanwhile.follow(seen.health)
        else:
            incidents.tell_due(self._lane, self._over.is_set, overdue_s=self._lane.settings.watchdog_s)
        self._meanwhile.tell()

    def _last(self) -> tuple[Last | None]:
        return (reports.newest(self._lane.cluster.control),)

    def _arms(self, last: Last | None) -> bool:
        """Whether there is a report, or should be one by now."""
        watchdog_s = self._lane.settings.watchdog_s
        there = last is not None and last.age_s < watchdog_s
        self._armed = there or monotonic() - self._begun_at > watchdog_s
        return self._armed

    def _somebody_looks(self, last: Last) -> bool:
        """Whether a report is fresh enough: fresher while something is critical, or the broker is down."""
        if last.age_s <= self._every_s:
            return True
        if last.age_s > self._lane.settings.watchdog_s:
            return False
        if _was_critical(last.health):
            return False
        assert self._lane.ask_broker is not None
        broker = self._lane.asking.begin("broker", self._lane.ask_broker).wait(monotonic() + ANSWER_S)
        return broker is not None and broker.up

    def _with_control(self, seen: Look, looked: bool) -> None:
        """As the duty does, unless somebody has; and what control does not know of is handed over, or over."""
        self._meanwhile.reconcile(self._lane.cluster.control, seen.health)
        if not looked:
            health.keep(self._lane, seen)
            incidents.tell_due(self._lane, self._over.is_set)


def _was_critical(health: Health) -> bool:
    """Whether something was, or is not over yet."""
    incidents_are = any(incident.level is Level.CRITICAL for incident in health.incidents)
    return incidents_are or any(part.band is Band.CRITICAL for part in health.components)
