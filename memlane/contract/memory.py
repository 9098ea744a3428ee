"""A memory: as a caller hands it over, and as memlane gives it back."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Self
from uuid import UUID, uuid5

from pydantic import AfterValidator, BaseModel, ConfigDict, FailFast, Field, model_validator
from pydantic_core import PydanticCustomError
from uuid_utils.compat import uuid7

from memlane.contract import limits
from memlane.contract.text import Content, Metadata, Name, Tag

_KEYS = UUID("6f9a1d0e-6f0b-5c1f-9d53-6d656d6c616e")
"""The name space of ids that are made from a caller's key."""


def _in_utc(value: datetime) -> datetime:
    """A time without a zone is taken as UTC, any other brought to UTC."""
    try:
        return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)
    except OverflowError:
        raise PydanticCustomError("time_range", "must lie within the years 1 to 9999 of UTC") from None


Time = Annotated[datetime, AfterValidator(_in_utc)]


class MemoryItem(BaseModel):
    """One memory as a caller hands it over.

    Attributes:
        agent: whose memory it is.
        content: what is remembered, at most 32 KiB of UTF-8.
        id: made by the client, so that its own retries are recognised; a UUIDv7 unless given.
        key: the caller's own name for this memory; the id is then made from it, so that sending
            it again, from anywhere, is recognised. Excludes `id`.
        kind: a word that says what sort of memory it is, to filter by.
        importance: 0 to 1.
        tags: words to filter by, at most 32.
        metadata: any JSON object, at most 16 KiB.
        occurred_at: when it happened; the time of acceptance unless given.
        thread: the conversation that it belongs to; neighbours in it are context for ranking.
        speaker: who said it; searched together with the content.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    agent: Name
    content: Content
    id: UUID | None = None
    key: Name | None = None
    kind: Name = "fact"
    importance: Annotated[float, Field(strict=True, ge=0, le=1, allow_inf_nan=False)] = 0.5
    tags: Annotated[tuple[Tag, ...], FailFast(), Field(max_length=limits.TAGS)] = ()
    metadata: Metadata = Field(default_factory=dict)
    occurred_at: Time | None = None
    thread: Name | None = None
    speaker: Name | None = None

    @model_validator(mode="after")
    def _one_identity(self) -> Self:
        if self.id is not None and self.key is not None:
            raise PydanticCustomError("two_identities", "give either id or key, not both")
        return self

    def identity(self, tenant: str) -> UUID:
        """The id of this memory: given, or made from the key, or new."""
        return self.id or (key_id(tenant, self.agent, self.key) if self.key else uuid7())

    @property
    def text(self) -> str:
        """What is searched and embedded: the content, after its speaker when one is given."""
        return spoken(self.speaker, self.content)


def key_id(tenant: str, agent: str, key: str) -> UUID:
    """The id that a caller's key stands for: a UUIDv5 over tenant, agent and key."""
    return uuid5(_KEYS, "\x00".join((tenant, agent, key)))


def spoken(speaker: str | None, content: str) -> str:
    """A content as it is searched and embedded."""
    return f"{speaker}: {content}" if speaker else content


@dataclass(frozen=True, slots=True)
class Memory:
    """One memory as memlane holds it; the fields are those of `MemoryItem`."""

    id: UUID
    agent: str
    content: str
    kind: str
    importance: float
    tags: tuple[str, ...]
    metadata: Mapping[str, Any]
    occurred_at: datetime
    created_at: datetime
    """When it was accepted."""
    key: str | None = None
    thread: str | None = None
    speaker: str | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a list, newest first; `next` is the cursor of the page after it, if there is one."""

    memories: tuple[Memory, ...] = ()
    next: str | None = None
