"""A recall: what is asked, and what comes back."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from pydantic import BaseModel, ConfigDict, FailFast, Field

from memlane.contract import limits
from memlane.contract.memory import Memory, Time
from memlane.contract.text import Metadata, Name, Query, Tag


class Filters(BaseModel):
    """Which memories count; all that are given have to hold.

    Attributes:
        kinds: one of these kinds, at most 100.
        tags: all of these tags, at most 32.
        since: happened at this time or later.
        until: happened before this time.
        thread: in this conversation.
        metadata: holds these fields with these values (JSON containment).
        min_importance: at least this important, 0 to 1.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kinds: Annotated[tuple[Name, ...], FailFast(), Field(max_length=limits.KINDS)] = ()
    tags: Annotated[tuple[Tag, ...], FailFast(), Field(max_length=limits.TAGS)] = ()
    since: Time | None = None
    until: Time | None = None
    thread: Name | None = None
    metadata: Metadata = Field(default_factory=dict)
    min_importance: Annotated[float, Field(strict=True, ge=0, le=1, allow_inf_nan=False)] = 0.0

    @property
    def any(self) -> bool:
        """Whether anything is filtered at all."""
        return bool(
            self.kinds or self.tags or self.since or self.until or self.thread or self.metadata or self.min_importance
        )


class RecallRequest(Filters):
    """A question to an agent's memory."""

    agent: Name
    query: Query
    limit: Annotated[int, Field(strict=True, ge=1, le=limits.RECALL_HITS)] = 10

    @property
    def filters(self) -> Filters:
        """The filters alone."""
        return Filters.model_construct(**{name: getattr(self, name) for name in Filters.model_fields})


@dataclass(frozen=True, slots=True)
class Parts:
    """What a score is made of; each is None where that search did not bring the memory up.

    Attributes:
        vector: cosine similarity of query and memory, -1 to 1.
        text: how well the words match, weighted by their rarity within the agent; 0 and up.
        context: what the neighbours in the same thread added.
    """

    vector: float | None = None
    text: float | None = None
    context: float = 0.0


@dataclass(frozen=True, slots=True)
class Hit:
    """One memory that was recalled; scores compare within one answer only."""

    memory: Memory
    score: float
    parts: Parts


@dataclass(frozen=True, slots=True)
class Recalled:
    """The answer to a recall, best hit first.

    Attributes:
        hits: at most `limit` memories.
        degraded: what was missing, in plain words; empty when nothing was. An outage never looks
            like an empty memory.
    """

    hits: tuple[Hit, ...]
    degraded: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[Hit]:
        return iter(self.hits)

    def __len__(self) -> int:
        return len(self.hits)
