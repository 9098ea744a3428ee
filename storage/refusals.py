"""Refusals: after a failure a node's callers are refused at once for a moment, instead of queueing up before it.

What is known of a node that answered is less than it seems: its disk may hang, or no standby may confirm what it
commits, while it reads as ever. So those who write are refused apart from those who read, and when the moment is over
one of them tries alone.
"""

from dataclasses import dataclass
from threading import Lock
from time import monotonic

REFUSE_S = 0.5
"""How long calls are refused after a failure, in seconds; longer where it took long to be seen."""

HURRY = 30
"""How many times as long as a call in a hurry has waited in vain the next ones are refused: it costs them 3 % of their
time."""

_LONGEST_S = 3.0
"""How long calls are refused after a failure that took long to be seen, in seconds."""


@dataclass(frozen=True, slots=True)
class Call:
    """What a call is like: whether it writes, and how long it waits if not as long as a statement may take."""

    writes: bool = False
    patience_s: float | None = None


class Refusals:
    """When calls to one node are refused.

    Args:
        trial_s: how long one who tries alone may take.
        hurry: how many times as long as they have waited those in a hurry are refused.
    """

    def __init__(self, trial_s: float, hurry: float = HURRY) -> None:
        self._trial_s = trial_s
        self._hurry = hurry
        self._until = 0.0
        self._impatient_until = 0.0
        self._writes_until: float | None = None
        self._lock = Lock()
        self.suspect = False
        """Whether a call has failed since the node was last seen to answer."""

    def refuses(self, call: Call) -> bool:
        """Whether a call is refused now; one that writes after others failed may be let through to try."""
        now = monotonic()
        if now < (self._until if call.patience_s is None else self._impatient_until):
            return True
        if not call.writes:
            return False
        with self._lock:
            if self._writes_until is None:
                return False
            if now >= self._writes_until:
                self._writes_until = now + self._trial_s
                return False
            return True

    def answered(self) -> None:
        """The node answers."""
        self.suspect = False

    def succeeded(self, call: Call) -> None:
        """A call was done."""
        self._impatient_until = 0.0
        if call.writes and self._writes_until is not None:
            with self._lock:
                self._writes_until = None

    def undecided(self, call: Call) -> None:
        """A call came to something else than an answer or none: whoever comes next may try."""
        if call.writes and self._writes_until is not None:
            with self._lock:
                self._writes_until = 0.0

    def failed(self, call: Call, took_s: float) -> None:
        """A call found the node down: others are refused for as long as it took to find out, within bounds.

        A node that was too slow for somebody in a hurry is not down for the others; and one to which nothing can be
        written may still be read. Whoever is in a hurry can do without it, and is refused until it has answered
        somebody else, or for a long while.
        """
        now = monotonic()
        moment_s = min(max(took_s, REFUSE_S), _LONGEST_S)
        self._impatient_until = max(self._impatient_until, now + max(self._hurry * took_s, REFUSE_S))
        if call.patience_s is not None:
            return
        self.suspect = True
        if call.writes:
            with self._lock:
                self._writes_until = now + moment_s
        else:
            self._until = now + moment_s
