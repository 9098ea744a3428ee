"""Meanwhile: the incidents that a gateway finds while control is away, in its own memory.

Several gateways may each find and tell the same then. When control is back, what still goes on is handed over to it, as
told if there are channels here; what is over is told as over from here.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from time import monotonic

from memlane.beat import incidents
from memlane.beat.telling import PAUSE_S, TRIES, taken
from memlane.config.settings import Settings
from memlane.contract.health import Health, Incident
from memlane.storage import incidents as kept
from memlane.storage.nodes import Node
from memlane.tasks.health.incidents import Changes, changes


@dataclass(frozen=True, slots=True)
class _Message:
    """An incident to be told of, how often that was tried, and when it is tried next, on the monotonic clock."""

    incident: Incident
    tries: int = 0
    at: float = 0.0


class Meanwhile:
    """What was found while control was away, and is not told or not over yet.

    Args:
        settings: this process's.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._open: dict[str, Incident] = {}
        self._messages: list[_Message] = []
        self._before: Health | None = None

    @property
    def empty(self) -> bool:
        """Whether nothing goes on that control does not know of."""
        return not self._open

    def follow(self, now: Health) -> None:
        """Take over what a look changes."""
        change = self._changed(now)
        for incident in change.begun:
            self._open[incident.subject] = incident
            incidents.begun(self._settings, incident)
            self._say(incident)
        self._end(now, change.over)

    def _changed(self, now: Health) -> Changes:
        change = changes(now, self._before, self._open.values())
        self._before = now
        return change

    def _end(self, now: Health, over: Sequence[str]) -> None:
        for subject in over:
            incident = replace(self._open.pop(subject), ended_at=now.at)
            incidents.over(self._settings, incident, (now.at - incident.began_at).total_seconds())
            self._say(incident)

    def reconcile(self, control: Node, now: Health) -> None:
        """Control is back, and gets to know what still goes on, by this look; what begins is its own affair.

        Raises:
            Unavailable: it is away again.
        """
        if self.empty:
            self._before = None  # looks are in control from now on; one from long ago is not the one before the next
            return
        self._end(now, self._changed(now).over)
        wrong = {found.subject for part in now.components for found in part.findings}
        for subject in [subject for subject in self._open if subject in wrong]:
            kept.hand_over(control, self._open[subject], told=bool(self._settings.alert_urls))
            del self._open[subject]

    def tell(self) -> None:
        """Tell the channels what is due; what none takes is tried again, ever later."""
        for message in [one for one in self._messages if one.at <= monotonic()]:
            self._messages.remove(message)
            incident, tries = message.incident, message.tries + 1
            if not taken(self._settings.alert_urls, incidents.title_of(incident), incidents.text_of(incident), tries):
                if tries < TRIES:
                    self._messages.append(_Message(incident, tries, monotonic() + tries * tries * PAUSE_S))
                return  # the others wait, since where one is dead each would take its time

    def _say(self, incident: Incident) -> None:
        if incident.level.rank >= self._settings.incident_level.rank:
            self._messages.append(_Message(incident))
