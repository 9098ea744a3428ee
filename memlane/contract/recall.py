"""A recall: what is asked, and what comes back."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    FailFast,
    Field,
    StrictBool,
    StringConstraints,
    model_validator,
)
from pydantic_core import PydanticCustomError

from memlane.contract import limits
from memlane.contract.memory import Importance, Memory, Time
from memlane.contract.text import Metadata, Name, Query, Tag
from memlane.contract.tiers import Tier


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
        pinned: pinned ones only, or those that are not.
        include_superseded: also those whose place a newer one has taken.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kinds: Annotated[tuple[Name, ...], FailFast(), Field(max_length=limits.KINDS)] = ()
    tags: Annotated[tuple[Tag, ...], FailFast(), Field(max_length=limits.TAGS)] = ()
    since: Time | None = None
    until: Time | None = None
    thread: Name | None = None
    metadata: Metadata = Field(default_factory=dict)
    min_importance: Importance = 0.0
    pinned: StrictBool | None = None
    include_superseded: StrictBool = False

    @property
    def any(self) -> bool:
        """Whether anything is filtered at all, beside what was superseded."""
        asked = self.kinds, self.tags, self.since, self.until, self.thread, self.metadata, self.min_importance
        return any(asked) or self.pinned is not None


def _each_once(names: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(names)) < len(names):
        raise PydanticCustomError("named_twice", "must name each agent once")
    return names


class RecallRequest(Filters):
    """A question to the memory of an agent, of several, or of all that the tenant has.

    Attributes:
        agent: whose memory is asked.
        agents: whose memories are asked together, up to 100, each once; in place of `agent`.
        all_agents: true, in place of both: the memories of all of the tenant's agents are asked together, of each shard
            as many as the server is set to compare, those of its newest agents.
        query: the question, at most 8 KiB of UTF-8.
        limit: how many hits at most, up to 100, of all agents together.
        include_recent: also what was handed over or recalled within 24 hours.
        include_week: also what was within 7 days, but not within 24 hours.
        include_old: also what is older than that. Unless given, it is for agents with few memories, and for others
            where too few good hits are found without.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [
                {"required": ["agent"]},
                {"required": ["agents"]},
                {"required": ["all_agents"], "properties": {"all_agents": {"const": True}}},
            ]
        },
    )

    agent: Name | None = None
    agents: Annotated[
        tuple[Name, ...],
        FailFast(),
        Field(min_length=1, max_length=limits.RECALL_AGENTS, json_schema_extra={"uniqueItems": True}),
        AfterValidator(_each_once),
    ] = ()
    all_agents: StrictBool = False
    query: Query
    limit: Annotated[int, Field(strict=True, ge=1, le=limits.RECALL_HITS)] = 10
    include_recent: StrictBool = True
    include_week: StrictBool = True
    include_old: StrictBool | None = None

    @model_validator(mode="after")
    def _some_tier(self) -> Self:
        if not self.tiers and self.include_old is False:
            raise PydanticCustomError("no_tier", "must include something: recent, week or old memories")
        return self

    @model_validator(mode="after")
    def _somebody(self) -> Self:
        named = (self.agent is not None) + bool(self.agents) + self.all_agents
        if not named:
            raise PydanticCustomError("no_agent", "is missing")
        if named > 1:
            raise PydanticCustomError("agent_or_agents", "give either agent or agents, or all_agents, not both")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """The agents that are named."""
        return self.agents if self.agent is None else (self.agent,)

    @property
    def tiers(self) -> frozenset[Tier]:
        """The tiers that are asked for; cold ones may be read beside them where `include_old` was not given."""
        asked = {Tier.HOT: self.include_recent, Tier.WARM: self.include_week, Tier.COLD: self.include_old}
        return frozenset(tier for tier, included in asked.items() if included)

    @property
    def filters(self) -> Filters:
        """The filters alone."""
        return filters_of(self)


class PageRequest(Filters):
    """One page of an agent's memories.

    Attributes:
        agent: whose memories.
        limit: at most so many, up to 1,000, with vectors up to 100.
        cursor: `next` of the page before; the first page without it.
        oldest_first: in the order in which they were accepted, not the newest first.
        vectors: each with its vector of the current model, if it has one.
    """

    agent: Name
    limit: Annotated[int, Field(strict=True, ge=1, le=limits.PAGE_ITEMS)] = 50
    cursor: Annotated[str, StringConstraints(pattern=r"^[0-9]{1,18}$")] | None = None
    oldest_first: StrictBool = False
    vectors: StrictBool = False

    @model_validator(mode="after")
    def _not_too_large(self) -> Self:
        if self.vectors and self.limit > limits.VECTOR_ITEMS:
            raise PydanticCustomError(
                "large_page", "must be at most {limit} with vectors", {"limit": limits.VECTOR_ITEMS}
            )
        return self

    @property
    def filters(self) -> Filters:
        """The filters alone."""
        return filters_of(self)


def filters_of(request: Filters) -> Filters:
    """The filters alone of what has more to it."""
    return Filters.model_construct(**{name: getattr(request, name) for name in Filters.model_fields})


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


class CacheUse(StrEnum):
    """How a cache came to know an answer."""

    HIT = "hit"
    """The same was asked, and nothing of the agent has changed since."""
    SIMILAR = "similar"
    """A similar question was asked."""


@dataclass(frozen=True, slots=True)
class Recalled:
    """The answer to a recall, best hit first.

    Attributes:
        hits: at most `limit` memories.
        degraded: what was missing, in plain words; empty when nothing was. An outage never looks
            like an empty memory.
        missing: the agents, of several, that could not be asked; the hits are those of the others.
        tiers: what was read: all, or only what is fresh, where that had enough good hits.
        cache: whether a cache knew it: `hit`, the same was asked and nothing of the agent has changed since, or
            `similar`, a similar question was; missing where it was searched for.
    """

    hits: tuple[Hit, ...]
    degraded: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    tiers: tuple[Tier, ...] = ()
    cache: CacheUse | None = None

    def __iter__(self) -> Iterator[Hit]:
        return iter(self.hits)

    def __len__(self) -> int:
        return len(self.hits)
