"""The life of a job: the states that it is in, those in which it ends, and what leads from one to another.

docs/explanation/guarantees.md has it drawn; a test holds drawing and code together.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class JobState(StrEnum):
    """Where a job is. The first three are read from its row; in the others it has none any more."""

    OPEN = "open"
    """It waits: no lease, not parked. It is due from `not_before` on."""
    LEASED = "leased"
    """Somebody holds it until the lease runs out; it is not parked."""
    PARKED = "parked"
    """Set aside with its error until someone retries or drops it; no lease."""
    DONE = "done"
    """Its effect is committed, and so is its end."""
    DROPPED = "dropped"
    """An operator, or whose it is, has given it up; a memory that was not stored is forgotten with it."""
    FORGOTTEN = "forgotten"
    """What it was about was forgotten first."""


class Move(StrEnum):
    """What happens to jobs."""

    ACCEPT = "accept"
    """It is made, in the transaction that makes what it asks for durable."""
    CLAIM = "claim"
    """A drain takes it under a lease."""
    RENEW = "renew"
    """The lease holds for longer."""
    RELEASE = "release"
    """It is given back as it was: the process stops, or something else is down."""
    REFUSE = "refuse"
    """It is given back for later, since the provider will not; that counts nowhere."""
    FINISH = "finish"
    """The effect is committed, by the holder of the lease alone."""
    EXPIRE = "expire"
    """The lease ran out, or the work failed: a death."""
    PARK = "park"
    """It has died too often."""
    RETRY = "retry"
    """Somebody takes it up again: no deaths, due now. Or a holder was late, not dead."""
    DROP = "drop"
    """Somebody gives it up."""
    FORGET = "forget"
    """What it is about is forgotten, whoever holds the job."""


@dataclass(frozen=True, slots=True)
class Way:
    """From which states a move leads, and where to; from none of them for a job that is made."""

    states: frozenset[JobState]
    to: JobState


def _way(to: JobState, *states: JobState) -> Way:
    return Way(frozenset(states), to)


LIFE: Mapping[Move, Way] = {
    Move.ACCEPT: _way(JobState.OPEN),
    Move.CLAIM: _way(JobState.LEASED, JobState.OPEN),
    Move.RENEW: _way(JobState.LEASED, JobState.LEASED),
    Move.RELEASE: _way(JobState.OPEN, JobState.LEASED),
    Move.REFUSE: _way(JobState.OPEN, JobState.LEASED),
    Move.FINISH: _way(JobState.DONE, JobState.LEASED),
    Move.EXPIRE: _way(JobState.OPEN, JobState.LEASED),
    Move.PARK: _way(JobState.PARKED, JobState.LEASED),
    Move.RETRY: _way(JobState.OPEN, JobState.PARKED),
    Move.DROP: _way(JobState.DROPPED, JobState.PARKED),
    Move.FORGET: _way(JobState.FORGOTTEN, JobState.OPEN, JobState.LEASED, JobState.PARKED),
}
"""Each move, with the states between which it leads."""
