"""The fields of a memory and of a recall, as arguments of both clients."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, TypedDict
from uuid import UUID

from memlane.contract import Embedding


class MemoryFields(TypedDict, total=False):
    """What may be said of a memory beside agent and content; `MemoryItem` explains each."""

    key: str | None
    kind: str
    importance: float
    tags: Sequence[str]
    metadata: Mapping[str, Any]
    occurred_at: datetime | None
    thread: str | None
    speaker: str | None
    expires_at: datetime | None
    supersedes: UUID | None
    pinned: bool
    embedding: Embedding | None


class UpdateFields(TypedDict, total=False):
    """What may become another of a memory; `MemoryUpdate` explains each."""

    content: str
    kind: str
    importance: float
    tags: Sequence[str]
    metadata: Mapping[str, Any]
    occurred_at: datetime
    pinned: bool
    expires_at: datetime | None
    supersedes: UUID | None


class FilterFields(TypedDict, total=False):
    """Which memories count; `Filters` explains each."""

    kinds: Sequence[str]
    tags: Sequence[str]
    since: datetime | None
    until: datetime | None
    thread: str | None
    metadata: Mapping[str, Any]
    min_importance: float
    pinned: bool | None
    include_superseded: bool


class RecallFields(FilterFields, total=False):
    """Which memories may be hits; `RecallRequest` explains each."""

    include_recent: bool
    include_week: bool
    include_old: bool | None


class ListFields(FilterFields, total=False):
    """Which memories are listed, and how; `PageRequest` explains each."""

    oldest_first: bool
    vectors: bool


class PageFields(ListFields, total=False):
    """One page of a list."""

    limit: int
    cursor: str | None


def asked_agents(agent: str | Sequence[str]) -> Mapping[str, Any]:
    """The field of a recall that says whose memory is asked: of one, or of several."""
    several = isinstance(agent, Sequence) and not isinstance(agent, str | bytes)
    return {"agents": tuple(agent)} if several else {"agent": agent}
