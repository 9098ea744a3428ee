"""The states of a receipt: how far a memory has come."""

from enum import StrEnum


class State(StrEnum):
    """How far a memory has come; each is true only when its effect is committed."""

    ACCEPTED = "accepted"
    """Identity, job and ledger row are durable on the agent's shard."""

    STORED = "stored"
    """The memory can be read by id, listed, and found by its words."""

    SEARCHABLE = "searchable"
    """Its vector for the current model is there: it can be found by meaning."""

    DUPLICATE = "duplicate"
    """The same id came before with the same content; the receipt carries that one's state."""

    PARKED = "parked"
    """Set aside with its error until an operator retries or drops it."""

    FORGOTTEN = "forgotten"
    """It was forgotten, and stays so whatever arrives later."""

    def reached(self, goal: "State") -> bool:
        """Whether a memory in this state has reached the goal `stored` or `searchable`."""
        return _PROGRESS.get(self, 0) >= _PROGRESS[goal]

    @property
    def final(self) -> bool:
        """Whether waiting for more is in vain."""
        return self in (State.SEARCHABLE, State.PARKED, State.FORGOTTEN)


_PROGRESS = {State.ACCEPTED: 1, State.STORED: 2, State.SEARCHABLE: 3}
