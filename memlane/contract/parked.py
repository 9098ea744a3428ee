"""What is set aside until somebody decides: parked jobs, and strays; and what is asked of them."""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, FailFast, Field, StringConstraints

from memlane.contract import limits
from memlane.contract.requests import MemoryName
from memlane.contract.text import Name

JobName = Annotated[str, StringConstraints(strict=True, pattern=r"^[0-9]{1,6}\.[0-9]{1,18}$")]
"""A job in a shard: the shard's number, a point, the job's number."""


@dataclass(frozen=True, slots=True)
class Parked:
    """One of your memories whose job was set aside, since whoever worked on it died or failed each time.

    Attributes:
        agent: whose memory it is.
        id: the memory's.
        kind: `remember`: it is not stored; `embed`: it is stored, and only waits for its vector.
        deaths: how often work on it ended badly.
        since: when it was set aside.
        content: what it says.
        error: why, without content.
    """

    agent: str
    id: UUID
    kind: str
    deaths: int
    since: datetime
    content: str
    error: str | None = None


@dataclass(frozen=True, slots=True)
class ParkedPage:
    """One page of your parked memories, shard by shard, each the longest parked first.

    Attributes:
        parked: the memories.
        next: the cursor of the page after it; none after the last.
        missing: shards that do not answer; the page is without theirs.
    """

    parked: tuple[Parked, ...]
    next: str | None = None
    missing: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class ParkedJob:
    """A job that was set aside, as an operator sees it: without content.

    Attributes:
        job: its name, the shard's number and its own: `3.1042`.
        shard: where it is.
        kind: remember, embed, text_embed, forget or optimize.
        tenant: whose it is; `*` for one that is nobody's.
        id: of the memory, where it is about one.
        deaths: how often work on it ended badly.
        since: when it was set aside.
        bytes: the size of what it carries; an embed job carries nothing.
        error: why, without content.
    """

    job: str
    shard: int
    kind: str
    tenant: str
    id: UUID
    deaths: int
    since: datetime
    bytes: int
    error: str | None = None


@dataclass(frozen=True, slots=True)
class ParkedJobs:
    """One page of parked jobs, shard by shard, each the longest parked first.

    Attributes:
        jobs: the jobs.
        next: the cursor of the page after it; none after the last.
        missing: shards that do not answer; the page is without theirs.
    """

    jobs: tuple[ParkedJob, ...]
    next: str | None = None
    missing: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Stray:
    """A producer's message that could not be taken in, without what it says.

    Attributes:
        id: the stray's own.
        shard: where it is kept.
        task: the producer's task.
        reason: what is wrong with it.
        since: when it was kept.
        bytes: its size.
        tenant: whose it is, if that could be made out.
        waits_for: the shard that was down when it came, to which the sweep sends it on; none for what was refused.
    """

    id: UUID
    shard: int
    task: str
    reason: str
    since: datetime
    bytes: int
    tenant: str | None = None
    waits_for: int | None = None


@dataclass(frozen=True, slots=True)
class Strays:
    """One page of strays, shard by shard, each the oldest first.

    Attributes:
        strays: the messages.
        next: the cursor of the page after it; none after the last.
        missing: shards that do not answer; the page is without theirs.
    """

    strays: tuple[Stray, ...]
    next: str | None = None
    missing: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Changed:
    """How many of those that were named were found as they were thought to be, and are so no more.

    Attributes:
        changed: how many.
        missing: shards that did not answer, and may have some; asked again, they may.
    """

    changed: int
    missing: tuple[int, ...] = ()


class _Named(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ParkedRequest(_Named):
    """Which of your parked memories are listed; all unless something is said.

    Attributes:
        agent: whose memories.
        id: one memory's.
        kind: what the jobs are for: `remember` or `embed`.
        limit: how many at most.
        cursor: `next` of the page before.
    """

    agent: Name | None = None
    id: UUID | None = None
    kind: Literal["remember", "embed"] | None = None
    limit: Annotated[int, Field(strict=True, ge=1, le=limits.PAGE_ITEMS)] = 50
    cursor: str | None = None


class MemoryNames(_Named):
    """Which parked memories are meant; those that are not parked stay as they are.

    Attributes:
        memories: at most 1,000.
    """

    memories: Annotated[tuple[MemoryName, ...], FailFast(), Field(min_length=1, max_length=limits.BATCH_ITEMS)]


class JobNames(_Named):
    """Which parked jobs are meant; those that are not parked stay as they are.

    Attributes:
        jobs: their names, like `3.1042`; at most 1,000.
    """

    jobs: Annotated[tuple[JobName, ...], FailFast(), Field(min_length=1, max_length=limits.BATCH_ITEMS)]


class StrayNames(_Named):
    """Which strays are meant; those that wait for their shard are the sweep's affair, and stay.

    Attributes:
        strays: their ids, at most 1,000.
    """

    strays: Annotated[tuple[UUID, ...], FailFast(), Field(min_length=1, max_length=limits.BATCH_ITEMS)]
