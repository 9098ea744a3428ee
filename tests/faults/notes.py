"""What the load knows: each memory that it handed over, what it last said, and what it asked to be forgotten."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from threading import Lock
from uuid import UUID

Name = tuple[str, UUID]
"""An agent and the id of a memory."""


class Fate(Enum):
    """What has to be found of a memory in the end."""

    UNKNOWN = "the call that handed it over got no answer: it may be there once"
    THERE = "there is a receipt: it has to be there once"
    MAYBE_GONE = "there is a receipt; the call that forgot it got no answer"
    GONE = "the call that forgot it was answered: nothing of it may be there"


@dataclass
class Note:
    """One memory.

    Attributes:
        agent: whose it is.
        id: made before the call.
        said: its content as the last call that was answered left it.
        key: the caller's name for it, if it has one.
        maybe: contents of updates that were not answered.
        fate: what has to be found of it.
        deadly: it kills who works on it, so it has to be parked.
        tag: a word to filter by.
        soon: it was forgotten by filter, in the background, so that it may be seen until all is at rest.
    """

    agent: str
    id: UUID
    said: str
    key: str | None = None
    maybe: set[str] = field(default_factory=set)
    fate: Fate = Fate.UNKNOWN
    deadly: bool = False
    tag: str | None = None
    soon: bool = False

    @property
    def name(self) -> Name:
        return self.agent, self.id

    def answered(self) -> None:
        """There is a receipt for it."""
        if self.fate is Fate.UNKNOWN:
            self.fate = Fate.THERE

    def forgotten(self, *, sure: bool) -> None:
        """It was forgotten; not surely if the call was not answered. What may still be on its way may come later."""
        if self.fate is Fate.UNKNOWN:
            return
        self.fate = Fate.GONE if sure or self.fate is Fate.GONE else Fate.MAYBE_GONE


class Notes:
    """All notes of a load; each agent is written by one thread, but for those that all share."""

    def __init__(self) -> None:
        self._notes: dict[Name, Note] = {}
        self._lock = Lock()
        self.seen_again: list[str] = []
        """What was recalled after a call that forgot it had been answered."""
        self.refused: list[str] = []
        """Answers that no fault explains."""

    def __iter__(self) -> Iterator[Note]:
        with self._lock:
            return iter(list(self._notes.values()))

    def __len__(self) -> int:
        return len(self._notes)

    def get(self, name: Name) -> Note | None:
        """The note of a memory, if it was handed over."""
        return self._notes.get(name)

    def about(self, agent: str, id_: UUID, content: str, key: str | None = None, tag: str | None = None) -> Note:
        """The note of a memory that is about to be handed over, perhaps again."""
        with self._lock:
            return self._notes.setdefault((agent, id_), Note(agent, id_, content, key, tag=tag))

    def of(self, agent: str) -> list[Note]:
        """What was handed over for an agent."""
        return [note for note in self if note.agent == agent]

    def add(self, other: "Notes") -> None:
        """Keep another load's notes as well."""
        self._notes |= other._notes
