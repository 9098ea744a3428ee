"""What is asked for beside remembering and recalling."""

from dataclasses import dataclass
from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, FailFast, Field, StrictBool, model_validator
from pydantic_core import PydanticCustomError

from memlane.contract import limits
from memlane.contract.recall import Filters, filters_of
from memlane.contract.text import Content, Name

REQUEST_HEADER = "Memlane-Request"
"""The header that names a request to forget, so that one that arrives twice is obeyed once."""


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class MemoryName(_Asked):
    """A memory, by its agent and id.

    Attributes:
        agent: whose memory it is.
        id: the memory's.
    """

    agent: Name
    id: UUID


class ReceiptsRequest(_Asked):
    """How far memories have come, at once or when all have reached a state.

    Attributes:
        receipts: which; at most 1,000.
        wait: the state to wait for.
        timeout: seconds to wait at most, up to 60.
    """

    receipts: Annotated[tuple[MemoryName, ...], FailFast(), Field(min_length=1, max_length=limits.BATCH_ITEMS)]
    wait: Literal["stored", "searchable"] | None = None
    timeout: Annotated[float, Field(ge=0, le=limits.WAIT_S, allow_inf_nan=False)] = 10.0


class EmbeddingsRequest(_Asked):
    """Vectors to be made ahead: of texts, for the cache, or of the memories that have none of the current model.

    Attributes:
        texts: what will be asked or remembered; at most 1,000.
        agent: whose memories; all of the tenant's without it and without texts.
    """

    texts: Annotated[tuple[Content, ...], FailFast(), Field(max_length=limits.BATCH_ITEMS)] = ()
    agent: Name | None = None

    @model_validator(mode="after")
    def _one_or_the_other(self) -> Self:
        if self.texts and self.agent is not None:
            raise PydanticCustomError("texts_or_agent", "give either texts or agent, not both")
        return self


class AgentRequest(_Asked):
    """Something about an agent."""

    agent: Name


class ForgetMatching(Filters):
    """Which memories of an agent are forgotten: those that pass the filters, of which there has to be one.

    Superseded ones count as well.

    Attributes:
        dry_run: only count them.
    """

    dry_run: StrictBool = False

    @model_validator(mode="after")
    def _some(self) -> Self:
        if not self.any:
            raise PydanticCustomError(
                "no_filter",
                "needs a filter, such as a tag; everything of an agent is forgotten without one, by another call",
            )
        return self

    @property
    def filters(self) -> Filters:
        """The filters alone."""
        return filters_of(self)


@dataclass(frozen=True, slots=True)
class Forgetting:
    """How many memories of an agent pass filters, and the job that forgets them; none after a dry run."""

    agent: str
    matched: int
    job: UUID | None = None


class ForgetRequest(_Asked):
    """One memory by id or key, or without both everything of an agent."""

    agent: Name
    id: UUID | None = None
    key: Name | None = None

    @model_validator(mode="after")
    def _one_name(self) -> Self:
        if self.id is not None and self.key is not None:
            raise PydanticCustomError("two_identities", "give either id or key, not both")
        return self
