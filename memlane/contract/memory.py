"""A memory: as a caller hands it over, and as memlane gives it back."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from struct import Struct
from typing import Annotated, Any, Self
from uuid import UUID, uuid5

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictBool, model_validator
from pydantic_core import PydanticCustomError
from uuid_utils.compat import uuid7

from memlane.contract import limits
from memlane.contract.text import Content, Metadata, Name, Tag

_KEYS = UUID("6f9a1d0e-6f0b-5c1f-9d53-6d656d6c616e")
"""The name space of ids that are made from a caller's key."""

_SINGLE = Struct("<f")


def _in_utc(value: datetime) -> datetime:
    """A time without a zone is taken as UTC, any other brought to UTC."""
    try:
        return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)
    except OverflowError:
        raise PydanticCustomError("time_range", "must lie within the years 1 to 9999 of UTC") from None


def _directed(value: tuple[float, ...]) -> tuple[float, ...]:
    """A vector of zeros points nowhere."""
    if not any(value):
        raise PydanticCustomError("no_direction", "must not be all zeros")
    return value


def single(value: float) -> float:
    """A number as single precision keeps it, by its shortest name: 0.8 is 0.8, 0.123456789 is 0.12345679."""
    kept: tuple[float] = _SINGLE.unpack(_SINGLE.pack(value))
    names = (float(f"{kept[0]:.{digits}g}") for digits in range(6, 9))
    return next((name for name in names if _SINGLE.unpack(_SINGLE.pack(name)) == kept), float(f"{kept[0]:.9g}"))


Time = Annotated[datetime, AfterValidator(_in_utc)]
"""A moment, kept in UTC; without a zone it is taken as UTC."""


Importance = Annotated[float, Field(strict=True, ge=0, le=1, allow_inf_nan=False), AfterValidator(single)]
"""0 to 1, in single precision: about seven digits."""

Tags = Annotated[tuple[Tag, ...], Field(max_length=limits.TAGS, fail_fast=True)]
"""All tags of a memory, at most 32."""


class Embedding(BaseModel):
    """A vector, and the model that made it.

    Attributes:
        model: as its embedder names itself; `memlane status` shows the current one.
        vector: at most 4,000 numbers, not all of them 0; only its direction counts.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: Name
    vector: Annotated[
        tuple[Annotated[float, Field(strict=True, allow_inf_nan=False)], ...],
        Field(min_length=1, max_length=limits.DIMS, fail_fast=True),
        AfterValidator(_directed),
    ]


class MemoryItem(BaseModel):
    """One memory as a caller hands it over.

    Attributes:
        agent: whose memory it is.
        content: what is remembered, at most 32 KiB of UTF-8.
        id: made by the client, so that its own retries are recognised; a UUIDv7 unless given.
        key: the caller's own name for this memory; the id is then made from it, so that sending
            it again, from anywhere, is recognised. Excludes `id`.
        kind: a word that says what sort of memory it is, to filter by.
        importance: 0 to 1, to about seven digits.
        tags: words to filter by, at most 32.
        metadata: any JSON object, at most 16 KiB.
        occurred_at: when it happened; the time of acceptance unless given.
        thread: the conversation that it belongs to; neighbours in it are context for ranking.
        speaker: who said it; searched together with the content.
        expires_at: from then on it is as good as forgotten, and soon is.
        supersedes: the id of an older memory of the agent, which is not recalled any more while this one lives.
        pinned: what lets importance fade with time, or cleans up by it, leaves this one alone.
        embedding: the vector of its text (the content, after `Speaker: ` when there is one), where it is known
            already. It is used if its model is the current one; else the text is embedded as ever.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    agent: Name
    content: Content
    id: UUID | None = None
    key: Name | None = None
    kind: Name = "fact"
    importance: Importance = 0.5
    tags: Tags = ()
    metadata: Metadata = Field(default_factory=dict)
    occurred_at: Time | None = None
    thread: Name | None = None
    speaker: Name | None = None
    expires_at: Time | None = None
    supersedes: UUID | None = None
    pinned: StrictBool = False
    embedding: Embedding | None = None

    @model_validator(mode="after")
    def _one_identity(self) -> Self:
        if self.id is not None and self.key is not None:
            raise PydanticCustomError("two_identities", "give either id or key, not both")
        if self.supersedes is not None and self.supersedes == self.id:
            raise PydanticCustomError("own_successor", "must be another memory")
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
    version: int = 1
    """Counts its contents."""
    changed_at: datetime | None = None
    """When anything of it was changed last."""
    expires_at: datetime | None = None
    pinned: bool = False
    supersedes: UUID | None = None
    superseded_by: UUID | None = None
    """The newest memory that takes its place."""
    embedding: Embedding | None = None
    """Its vector, where that was asked for."""


@dataclass(frozen=True, slots=True)
class Version:
    """What a memory said before.

    Attributes:
        version: 1 for its first content.
        content: what it said.
        replaced_at: until when.
    """

    version: int
    content: str
    replaced_at: datetime


class MemoryUpdate(BaseModel):
    """What becomes of a memory; fields that are not given stay as they are.

    Attributes:
        content: what it says from now on; what it said before is kept in its history.
        kind, importance, tags, metadata, occurred_at, pinned: as in `MemoryItem`; each replaces what was there.
        expires_at: as in `MemoryItem`; null: never.
        supersedes: as in `MemoryItem`; null: nothing.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    content: Content | None = None
    kind: Name | None = None
    importance: Importance | None = None
    tags: Tags | None = None
    metadata: Metadata | None = None
    occurred_at: Time | None = None
    pinned: StrictBool | None = None
    expires_at: Time | None = None
    supersedes: UUID | None = None

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not self.model_fields_set:
            raise PydanticCustomError("no_change", "must name what is to be changed")
        for name in self.model_fields_set - {"expires_at", "supersedes"}:
            if getattr(self, name) is None:
                raise PydanticCustomError("null", "{name} must not be null", {"name": name})
        return self

    @property
    def given(self) -> Mapping[str, Any]:
        """The fields that were given, with their values."""
        return {name: getattr(self, name) for name in MemoryUpdate.model_fields if name in self.model_fields_set}


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a list, newest first; `next` is the cursor of the page after it, if there is one."""

    memories: tuple[Memory, ...] = ()
    next: str | None = None
