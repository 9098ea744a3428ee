"""The ledger: what became of everything that was handed over, and whether it adds up."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Event(StrEnum):
    """What the ledger counts."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    """Seen again with the same content."""
    REJECTED = "rejected"
    """Seen and refused with a reason."""
    STORED = "stored"
    EMBEDDED = "embedded"
    PARKED = "parked"
    UNPARKED = "unparked"
    DROPPED = "dropped"
    """Forgotten, or dropped by an operator, while its job was open."""
    FORGOTTEN = "forgotten"
    """Forgotten after it was stored."""
    UPDATED = "updated"
    EXPIRED = "expired"
    """Forgotten since its time was over, by its date or for want of use; not counted as forgotten as well."""


@dataclass(frozen=True, slots=True)
class Ledger:
    """The counts of one tenant, or of all, summed over the shards.

    Attributes:
        events: how often each event happened since the beginning.
        open: remember jobs that wait or are worked on now.
        parked: remember jobs that are set aside now.
        missing: shards that could not be read; the sums are without them.
    """

    events: Mapping[Event, int]
    open: int
    parked: int
    missing: tuple[int, ...] = ()

    @property
    def difference(self) -> int:
        """Accepted - (stored + dropped + parked now + open now); 0 when nothing is lost or doubled."""
        count = self.events.get
        settled = count(Event.STORED, 0) + count(Event.DROPPED, 0)
        return count(Event.ACCEPTED, 0) - settled - self.parked - self.open

    @property
    def balanced(self) -> bool:
        """Whether accepted = stored + dropped + parked now + open now."""
        return self.difference == 0
