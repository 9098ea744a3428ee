"""Costs: budgets and what is spent of them, prices, and what was used and saved. Days and months are those of UTC."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from memlane.contract import limits
from memlane.contract.text import Name


class Period(StrEnum):
    """For how long a budget is; it begins anew by the calendar, in UTC."""

    DAY = "day"
    MONTH = "month"


class AtLimit(StrEnum):
    """What happens when a budget is used up."""

    DEFER = "defer"
    """Memories are stored, and found by their words; their vectors come when there is money again."""
    REJECT = "reject"
    """New memories are refused."""


class UsageBy(StrEnum):
    """What usage is added up by."""

    DAY = "day"
    TENANT = "tenant"
    AGENT = "agent"
    MODEL = "model"


SHIPPED_PRICES: Mapping[str, int] = {
    "text-embedding-3-small": 20_000,
    "text-embedding-3-large": 130_000,
    "text-embedding-ada-002": 100_000,
    "all-minilm-l6-v2": 0,
    "hash": 0,
}
"""The prices that a new cluster begins with, in micro-dollars per million tokens; OpenAI's as it publishes them at
https://platform.openai.com/docs/pricing (standard tier)."""


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class BudgetRequest(_Asked):
    """What may be spent in each period.

    Attributes:
        limit_micro: in micro-dollars: 5,000,000 are $5.
        at_limit: what happens when it is used up: `defer` the vectors, or `reject` new memories; as it was without it,
            and `defer` for a budget that is new.
    """

    limit_micro: Annotated[int, Field(strict=True, ge=1, le=limits.BUDGET_MICRO)]
    at_limit: AtLimit | None = None


class PriceRequest(_Asked):
    """What a model costs from now on.

    Attributes:
        micro_per_million: micro-dollars for a million tokens: $0.02 are 20,000.
    """

    micro_per_million: Annotated[int, Field(strict=True, ge=0, le=limits.PRICE_MICRO)]


Cursor = Annotated[str, Field(pattern=r"^[0-9]{1,9}$")]
"""How many rows came before."""


class _Paged(_Asked):
    limit: Annotated[int, Field(strict=True, ge=1, le=limits.PAGE_ITEMS)] = 100
    cursor: Cursor | None = None

    @property
    def offset(self) -> int:
        """How many rows came before."""
        return int(self.cursor or 0)


class BudgetsRequest(_Paged):
    """Which budgets are listed; all unless something is said.

    Attributes:
        tenant: whose.
        agent: of this agent alone.
        limit: how many at most.
        cursor: `next` of the page before.
    """

    tenant: str | None = None
    agent: Name | None = None


class HistoryRequest(BudgetsRequest):
    """Which periods of budgets are listed; all unless something is said, the latest first.

    Attributes:
        period: of daily or of monthly budgets alone.
    """

    period: Period | None = None


def _parts(given: object) -> object:
    """What usage is added up by, also as words with commas between."""
    words = (given.split(",") if given else []) if isinstance(given, str) else given
    if not isinstance(words, list | tuple) or not {str(word) for word in words} <= {*UsageBy}:
        raise PydanticCustomError("by", "must be some of day, tenant, agent, model, with commas between")
    return tuple(dict.fromkeys(words))


class UsageRequest(_Paged):
    """Which usage is added up, and by what.

    Attributes:
        by: some of day, tenant, agent, model, with commas between; all in one if there is none.
        tenant: whose.
        agent: of this agent alone.
        model: of this model alone.
        since: from this day on; from 30 days ago unless given.
        until: up to this day, which counts.
        limit: how many rows at most.
        cursor: `next` of the page before.
    """

    by: Annotated[tuple[UsageBy, ...], BeforeValidator(_parts)] = (UsageBy.DAY,)
    tenant: str | None = None
    agent: Name | None = None
    model: str | None = None
    since: date | None = None
    until: date | None = None


@dataclass(frozen=True, slots=True)
class Budget:
    """A budget, and how much of it is gone in the period that goes on now.

    Attributes:
        tenant: whose.
        period: for how long it is.
        limit_micro: what may be spent, in micro-dollars.
        at_limit: what happens when it is used up.
        starts: the first day of the period that goes on now.
        resets_at: when it begins anew.
        spent_micro: what is spent, in micro-dollars with their fractions.
        reserved_micro: what is set aside for calls under way, likewise.
        percent: what is spent of the limit.
        alerts: the thresholds of which it was said in this period that they are reached, in percent.
        agent: of this agent alone; without it, of all that the tenant spends.
    """

    tenant: str
    period: Period
    limit_micro: int
    at_limit: AtLimit
    starts: date
    resets_at: datetime
    spent_micro: float
    reserved_micro: float
    percent: float
    alerts: Sequence[int] = ()
    agent: str | None = None


@dataclass(frozen=True, slots=True)
class Budgets:
    """One page of budgets, by tenant and agent.

    Attributes:
        budgets: the budgets.
        next: the cursor of the page after it; none after the last.
    """

    budgets: Sequence[Budget]
    next: str | None = None


@dataclass(frozen=True, slots=True)
class Spending:
    """What was spent of a budget in one of its periods, be it over or not.

    Attributes:
        tenant: whose.
        period: for how long the budget is, or was.
        starts: the first day.
        resets_at: when it was, or will be, over.
        limit_micro: what might be spent, at the end, in micro-dollars.
        spent_micro: what was, in micro-dollars with their fractions.
        reserved_micro: what is set aside for calls under way, likewise.
        percent: what was spent of the limit.
        agent: of this agent alone; without it, of all that the tenant spent.
    """

    tenant: str
    period: Period
    starts: date
    resets_at: datetime
    limit_micro: int
    spent_micro: float
    reserved_micro: float
    percent: float
    agent: str | None = None


@dataclass(frozen=True, slots=True)
class History:
    """One page of periods of budgets, the latest first.

    Attributes:
        periods: what was spent in each.
        next: the cursor of the page after it; none after the last.
    """

    periods: Sequence[Spending]
    next: str | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """What was asked of embeddings providers, and what needed not be asked; added up.

    Attributes:
        requests: how many; one for several agents or tenants is shared by its texts.
        failed: of these, those that brought nothing.
        texts: how many were sent.
        tokens: how many were charged.
        cost_micro: what they cost, in micro-dollars with their fractions.
        saved_texts: texts that needed not be sent: their vectors were cached, or they were twice in a batch.
        saved_tokens: what they would have been charged.
        saved_micro: what they would have cost.
        saved_requests: how many more there would have been with one for each text: texts + saved_texts - requests.
        day: when, if it is added up by days.
        tenant: whose, if by tenants.
        agent: whose, if by agents; empty for texts and questions of no agent.
        model: which, if by models.
    """

    requests: float
    failed: float
    texts: int
    tokens: int
    cost_micro: float
    saved_texts: int
    saved_tokens: int
    saved_micro: float
    saved_requests: float
    day: date | None = None
    tenant: str | None = None
    agent: str | None = None
    model: str | None = None


@dataclass(frozen=True, slots=True)
class UsagePage:
    """One page of usage: the latest days first, and what cost most first.

    Attributes:
        usage: the sums.
        next: the cursor of the page after it; none after the last.
    """

    usage: Sequence[Usage]
    next: str | None = None


@dataclass(frozen=True, slots=True)
class Price:
    """What a model costs.

    Attributes:
        model: as its provider calls it.
        micro_per_million: micro-dollars for a million tokens.
    """

    model: str
    micro_per_million: int


@dataclass(frozen=True, slots=True)
class Latency:
    """How long requests of about this size took.

    Attributes:
        model: as its provider calls it.
        texts: how many they had: at most so many, and more than half.
        requests: how many there were.
        mean_s: how long one took in the mean, in seconds.
    """

    model: str
    texts: int
    requests: int
    mean_s: float


@dataclass(frozen=True, slots=True)
class BudgetRemoved:
    """A budget that is no more."""

    tenant: str
    period: Period
    removed: bool
    agent: str | None = None


@dataclass(frozen=True, slots=True)
class PriceRemoved:
    """A model that has no price any more: where there is a budget, nothing is asked of it."""

    model: str
    removed: bool
