"""Upkeep as an operator sees it: what vacuum did, the knobs that auto-tune turns, and the indexes of large agents."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class Action(StrEnum):
    """What vacuum does to a table or an index."""

    VACUUM = "vacuum"
    ANALYZE = "analyze"
    REINDEX = "reindex"
    """An index is built again, beside the old one."""
    DROP = "drop"
    """An index that a build left behind unfinished."""


class Ended(StrEnum):
    """How it ended."""

    DONE = "done"
    STOPPED = "stopped"
    """By the end of the slice, or since somebody had locked it; another time it goes on."""
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Vacuumed:
    """What was done to a table or an index.

    Attributes:
        node: where.
        relation: its name.
        action: what was done.
        why: which threshold was passed.
        outcome: how it ended.
        ms: how long it took.
        dead_before: dead rows, or vectors of an index that are gone.
        dead_after: the same, afterwards.
        bytes_before: the size, with all indexes.
        bytes_after: the same, afterwards.
        at: when it ended.
        shard: whose; missing for control's tables.
    """

    node: str
    relation: str
    action: Action
    why: str
    outcome: Ended
    ms: float
    dead_before: int = 0
    dead_after: int = 0
    bytes_before: int = 0
    bytes_after: int = 0
    at: datetime | None = None
    shard: int | None = None


class Knob(StrEnum):
    """What auto-tune turns."""

    CLAIM_SIZE = "claim_size"
    """Most jobs that a drain claims at once."""
    DRAINS_PER_SHARD = "drains_per_shard"
    """How many drains of a kind may be at work on one shard at once."""
    EF_SEARCH = "ef_search"
    """How much of an agent's index a recall looks at: pgvector's hnsw.ef_search."""


@dataclass(frozen=True, slots=True)
class KnobStatus:
    """How a knob stands.

    Attributes:
        knob: which.
        value: how it stands now.
        least: auto-tune and operators turn it no lower.
        most: nor higher.
        by: who turned it: `settings` (nobody), `auto-tune` or `hand`; what was set by hand auto-tune leaves alone.
    """

    knob: Knob
    value: int
    least: int
    most: int
    by: str


class Verdict(StrEnum):
    """What became of a turn of a knob."""

    TRIAL = "trial"
    """It is not known yet whether it made things better."""
    KEPT = "kept"
    TAKEN_BACK = "taken back"


@dataclass(frozen=True, slots=True)
class Tuning:
    """A turn of a knob.

    Attributes:
        knob: which.
        before: how it stood.
        after: how it stood then.
        why: what it was turned for.
        metric: what was to become better; `none` for what was set by hand.
        state: what became of it.
        began_at: when it was turned.
        metric_before: the metric before.
        metric_after: the metric when it was decided.
        decided_at: when that was.
    """

    knob: Knob
    before: float
    after: float
    why: str
    metric: str
    state: Verdict
    began_at: datetime
    metric_before: float | None = None
    metric_after: float | None = None
    decided_at: datetime | None = None


class KnobRequest(BaseModel):
    """How a knob is to stand from now on.

    Attributes:
        value: within its bounds, which the settings say.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    value: Annotated[int, Field(strict=True, ge=1, le=100_000)]


@dataclass(frozen=True, slots=True)
class AgentIndex:
    """The index of a large agent's vectors, or an agent that has none since none was good enough.

    Attributes:
        tenant: whose agent it is.
        agent: the tenant's name for it.
        shard: where it lives.
        memories: how many it has.
        bytes: the size of the index; 0 without one.
        m: neighbours of a vector in its graph.
        ef_construction: how many were looked at for them.
        questions: how many the canary asked it last.
        vectors: how many it was built of; missing where nobody counted.
        tail: vectors that are newer, and are compared exactly beside it, at the last look.
        ef_search: how much of it a recall looks at; missing: as the knob says.
        recall: recall@10 against exact search, as the canary found it; missing before it asked this index.
        ms: how long a look into it took, the median; missing before that, too.
        asked: questions to the agent within a week before the last look, of the last 1,000.
        asked_at: the last of them.
        built_at: when it was built; missing without one.
        sung_at: when the canary asked.
        exact_until: until then the agent is searched exactly, since no index was good enough.
    """

    tenant: str
    agent: str
    shard: int
    memories: int
    bytes: int
    m: int
    ef_construction: int
    questions: int
    vectors: int | None = None
    tail: int | None = None
    ef_search: int | None = None
    recall: float | None = None
    ms: float | None = None
    asked: int | None = None
    asked_at: datetime | None = None
    built_at: datetime | None = None
    sung_at: datetime | None = None
    exact_until: datetime | None = None
