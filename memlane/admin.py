"""The admin's client: tenants, keys, and the state of the whole, over HTTP with the admin key."""

import json
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, Self, TypeVar, Unpack
from urllib.parse import quote
from uuid import UUID

from memlane.client import costs
from memlane.client.calls import Call
from memlane.client.costs import UsageFields, paged
from memlane.client.synchronous import Client
from memlane.contract import Ledger, wire
from memlane.contract.caching import CachesCleared, CacheStatus
from memlane.contract.cost import (
    AtLimit,
    Budget,
    BudgetRequest,
    BudgetsRequest,
    HistoryRequest,
    Latency,
    Period,
    Price,
    PriceRequest,
    Spending,
    Usage,
    UsageBy,
    UsageRequest,
)
from memlane.contract.health import Health
from memlane.contract.live import Live
from memlane.contract.parked import Changed, ParkedJobs, Strays
from memlane.contract.parsing import parse
from memlane.contract.status import (
    KeyStatus,
    NewKey,
    NodeStatus,
    RotatedKey,
    ShardStatus,
    Status,
    TenantLimits,
    TenantStatus,
)
from memlane.contract.upkeep import AgentIndex, Knob, KnobStatus, Tuning, Vacuumed
from memlane.errors import FieldError, InvalidInput

T = TypeVar("T")


class Admin:
    """What an operator asks of a gateway.

    Args:
        url: of the gateway.
        api_key: the admin key.
        timeout: seconds for one request.
        retries: how often a request is repeated after a 503, a 429 or a broken connection.
    """

    def __init__(self, url: str, api_key: str, *, timeout: float = 30.0, retries: int = 2) -> None:
        self._client = Client(url, api_key, timeout=timeout, retries=retries)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, stack: TracebackType | None
    ) -> None:
        self.close()

    def status(self) -> Status:
        """Nodes, shards, jobs, strays, duties and broker, each as it is now."""
        return self._get("/status", Status)

    def health(self) -> Health:
        """The score of each component and of the whole, what is wrong, and what to do next."""
        return self._client.send(Call("GET", "/v1/health", lambda data: wire.load(Health, data)))

    def live(self) -> Live:
        """What all processes have done and how they are; who asks twice knows what went on between."""
        return self._get("/live", Live)

    def ledger(self) -> Ledger:
        """What became of everything that was handed over, by all tenants."""
        return self._get("/ledger", Ledger)

    def nodes(self) -> Sequence[NodeStatus]:
        """The servers of each node: their roles, and how far the standbys are behind."""
        return self._get("/nodes", list[NodeStatus])

    def shards(self) -> Sequence[ShardStatus]:
        """Where each shard lives, and what it holds."""
        return self._get("/shards", list[ShardStatus])

    def tenants(self) -> Sequence[TenantStatus]:
        """All tenants."""
        return self._get("/tenants", list[TenantStatus])

    def create_tenant(self, tenant: str) -> bool:
        """Add a tenant; False if it was there.

        Raises:
            InvalidInput: it is not a good name.
        """
        return bool(json.loads(self._post("/tenants", {"tenant": tenant}))["created"])

    def set_limits(self, tenant: str, **limits: int | None) -> TenantLimits:
        """Set limits of a tenant; all that are set then. They hold everywhere within a few seconds.

        Args:
            tenant: whose.
            limits: `weight`, `rate`, `agent_rate`, `open_jobs`, as in `TenantLimits`; None takes one back, and those
                that are not given stay as they are.

        Raises:
            InvalidInput: names the limit that is wrong.
            NotFound: there is no such tenant.
        """
        path = f"/v1/admin/tenants/{quote(tenant, safe='')}/limits"
        read = Call("PUT", path, lambda data: wire.load(TenantLimits, data), json.dumps(limits).encode())
        return self._client.send(read)

    def keys(self, tenant: str | None = None) -> Sequence[KeyStatus]:
        """All keys, or a tenant's, without their secrets."""
        params = {"tenant": tenant} if tenant else {}
        read = Call("GET", "/v1/admin/keys", lambda data: wire.load(list[KeyStatus], data), params=params)
        return self._client.send(read)

    def create_key(self, tenant: str | None, label: str = "", lives_s: float | None = None) -> str:
        """Make a key for a tenant, or for the admin without one; it is shown this once.

        Args:
            tenant: whose.
            label: what it is for.
            lives_s: after how many seconds it ends; it does not unless given.

        Raises:
            NotFound: there is no such tenant.
        """
        return wire.load(NewKey, self._post("/keys", {"tenant": tenant, "label": label, "lives_s": lives_s})).key

    def rotate_key(self, prefix: str, grace_s: float = 86_400.0) -> RotatedKey:
        """Make a key that takes another's place, for the same tenant; it is shown this once.

        Args:
            prefix: of the key that is replaced.
            grace_s: for how many seconds that goes on being good; 0 ends it at once.

        Raises:
            NotFound: there is none with this prefix, or it has ended.
        """
        return wire.load(RotatedKey, self._post(f"/keys/{quote(prefix, safe='')}/rotate", {"grace_s": grace_s}))

    def revoke_key(self, prefix: str) -> None:
        """Make a key worthless.

        Raises:
            NotFound: there is none with this prefix, or it was revoked before.
        """
        self._client.send(Call("DELETE", f"/v1/admin/keys/{quote(prefix, safe='')}", lambda data: data))

    def embed_missing(self) -> int:
        """Ask for the vectors that memories of any tenant lack; how many jobs that made."""
        return int(json.loads(self._post("/embeddings", {}))["jobs"])

    def parked_page(
        self,
        *,
        tenant: str | None = None,
        kind: str | None = None,
        shard: int | None = None,
        id: UUID | None = None,
        job: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> ParkedJobs:
        """One page of the jobs that were set aside, without what they carry.

        Args:
            tenant: whose; all tenants' unless given.
            kind: remember, embed, text_embed, forget or optimize.
            shard: where.
            id: of the memory that they are about.
            job: one job's name.
            limit: how many at most, up to 1,000.
            cursor: `next` of the page before.
        """
        asked = {"tenant": tenant, "kind": kind, "shard": shard, "id": id, "job": job, "limit": limit, "cursor": cursor}
        return self._get("/jobs/parked", ParkedJobs, asked)

    def retry_parked(self, jobs: Sequence[str]) -> int:
        """Try jobs that were set aside again, by their names, up to 1,000; how many were set aside."""
        return wire.load(Changed, self._post("/jobs/parked/retry", {"jobs": list(jobs)})).changed

    def drop_parked(self, jobs: Sequence[str]) -> int:
        """Give jobs that were set aside up, by their names, up to 1,000; how many were.

        Those that forget something stay. A memory that was not stored is forgotten for good; one that is stays,
        without a vector.
        """
        return wire.load(Changed, self._post("/jobs/parked/drop", {"jobs": list(jobs)})).changed

    def strays_page(
        self,
        *,
        tenant: str | None = None,
        task: str | None = None,
        shard: int | None = None,
        id: UUID | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> Strays:
        """One page of producers' messages that could not be taken in, without what they say.

        Args:
            tenant: whose; all tenants' unless given.
            task: the producer's task.
            shard: where they are kept.
            id: one stray's.
            limit: how many at most, up to 1,000.
            cursor: `next` of the page before.
        """
        asked = {"tenant": tenant, "task": task, "shard": shard, "id": id, "limit": limit, "cursor": cursor}
        return self._get("/strays", Strays, asked)

    def retry_strays(self, ids: Sequence[UUID]) -> int:
        """Let strays be delivered again by the next sweep, up to 1,000; how many were there.

        What is still wrong is kept again, under another id.
        """
        return wire.load(Changed, self._post("/strays/retry", {"strays": list(map(str, ids))})).changed

    def drop_strays(self, ids: Sequence[UUID]) -> int:
        """Give strays up, up to 1,000; how many were there. Those that wait for their shard stay."""
        return wire.load(Changed, self._post("/strays/drop", {"strays": list(map(str, ids))})).changed

    def set_budget(
        self,
        tenant: str,
        limit_micro: int,
        *,
        agent: str | None = None,
        period: Period | Literal["day", "month"] = "day",
        at_limit: AtLimit | Literal["defer", "reject"] | None = None,
    ) -> Budget:
        """Set a budget up, or change it; it as it is then. What was spent before in its period counts.

        Args:
            tenant: whose.
            limit_micro: what may be spent in each period, in micro-dollars: 5,000,000 are $5.
            agent: of this agent alone, which need not be known yet; of all that the tenant spends without it.
            period: `day` or `month`, by the calendar, in UTC.
            at_limit: what happens when it is used up: `defer` the vectors, or `reject` new memories; as it was without
                it, and `defer` for a budget that is new.

        Raises:
            InvalidInput: names the field.
            NotFound: there is no such tenant.
        """
        wanted = parse(BudgetRequest, {"limit_micro": limit_micro, "at_limit": at_limit})
        return self._client.send(costs.set_budget(tenant, agent, _period(period), wanted))

    def remove_budget(
        self, tenant: str, *, agent: str | None = None, period: Period | Literal["day", "month"] = "day"
    ) -> None:
        """Take a budget away; calls under way are settled all the same.

        Raises:
            NotFound: there is none.
        """
        self._client.send(costs.remove_budget(tenant, agent, _period(period)))

    def budgets(self, *, tenant: str | None = None, agent: str | None = None) -> Sequence[Budget]:
        """Budgets by tenant and agent, with what is spent in the period that goes on now.

        Args:
            tenant: whose; all tenants' unless given.
            agent: of this agent alone.
        """
        asked = {"tenant": tenant, "agent": agent}
        pages = paged(
            lambda page: self._client.send(costs.budgets(costs.ALL, parse(BudgetsRequest, {**asked, **page})))
        )
        return [budget for page in pages for budget in page.budgets]

    def budget_history(
        self,
        *,
        tenant: str | None = None,
        agent: str | None = None,
        period: Period | Literal["day", "month"] | None = None,
    ) -> Sequence[Spending]:
        """What was spent of budgets in each period, the latest first.

        Args:
            tenant: whose; all tenants' unless given.
            agent: of this agent alone.
            period: of daily or of monthly budgets alone.
        """
        asked = {"tenant": tenant, "agent": agent, "period": period}
        pages = paged(
            lambda page: self._client.send(costs.history(costs.ALL, parse(HistoryRequest, {**asked, **page})))
        )
        return [spent for page in pages for spent in page.periods]

    def usage(
        self, by: Sequence[UsageBy | str] = ("day",), *, tenant: str | None = None, **which: Unpack[UsageFields]
    ) -> Sequence[Usage]:
        """What was asked of embeddings providers, what it cost and what was saved, added up.

        Args:
            by: what it is added up by: day, tenant, agent, model; all in one without any.
            tenant: whose; all tenants' unless given.
            which: agent, model, since and until, as in `UsageRequest`; the last 30 days unless given.
        """
        asked = {"by": tuple(by), "tenant": tenant, **which}
        pages = paged(lambda page: self._client.send(costs.usage(costs.ALL, parse(UsageRequest, {**asked, **page}))))
        return [used for page in pages for used in page.usage]

    def prices(self) -> Sequence[Price]:
        """What each model costs."""
        return self._client.send(costs.prices())

    def set_price(self, model: str, micro_per_million: int) -> Price:
        """Set what a model costs from now on; what was spent before stays as it was.

        Args:
            model: as its provider calls it.
            micro_per_million: micro-dollars for a million tokens: $0.02 are 20,000.
        """
        return self._client.send(costs.set_price(model, parse(PriceRequest, {"micro_per_million": micro_per_million})))

    def remove_price(self, model: str) -> None:
        """Take a model's price away: where there is a budget, nothing is asked of it then.

        Raises:
            NotFound: it has none.
        """
        self._client.send(costs.remove_price(model))

    def vacuums(self, *, shard: int | None = None, relation: str | None = None, limit: int = 100) -> Sequence[Vacuumed]:
        """What was done to tables and indexes within a week, the latest first.

        Args:
            shard: of this shard alone.
            relation: of this table or index alone.
            limit: how many at most, up to 1,000.
        """
        return self._get("/vacuums", list[Vacuumed], {"shard": shard, "relation": relation, "limit": limit})

    def indexes(self) -> Sequence[AgentIndex]:
        """The indexes of large agents, those that miss most first: how they were built, and how well they answer."""
        return self._get("/indexes", list[AgentIndex])

    def knobs(self) -> Sequence[KnobStatus]:
        """How each knob stands, its bounds, and who turned it."""
        return self._get("/knobs", list[KnobStatus])

    def set_knob(self, knob: Knob | str, value: int) -> KnobStatus:
        """Set a knob by hand; auto-tune leaves it alone until it is reset.

        Args:
            knob: `claim_size`, `drains_per_shard` or `ef_search`.
            value: within its bounds.

        Raises:
            InvalidInput: it is out of bounds, or there is no such knob.
        """
        body = json.dumps({"value": value}).encode()
        return self._client.send(Call("PUT", _knob(knob), lambda data: wire.load(KnobStatus, data), body))

    def reset_knob(self, knob: Knob | str) -> KnobStatus:
        """Let a knob stand as the settings say; auto-tune may turn it from there."""
        return self._client.send(Call("DELETE", _knob(knob), lambda data: wire.load(KnobStatus, data)))

    def tunings(self, limit: int = 100) -> Sequence[Tuning]:
        """The turns of knobs within 90 days, the latest first, up to 1,000."""
        return self._get("/tunings", list[Tuning], {"limit": limit})

    def caches(self) -> Sequence[CacheStatus]:
        """How often each level of each cache knew what it was asked, and what it holds."""
        return self._get("/caches", list[CacheStatus])

    def clear_caches(
        self, *, tenant: str | None = None, agent: str | None = None, memory: UUID | None = None
    ) -> CachesCleared:
        """Have all processes forget what they know; it holds at once.

        Args:
            tenant: of this tenant alone.
            agent: of this agent of the tenant alone.
            memory: whatever this memory of the agent may be in: all of the agent.

        Raises:
            NotFound: there is no such agent.
        """
        asked = {"tenant": tenant, "agent": agent, "memory": memory}
        params = {name: str(value) for name, value in asked.items() if value is not None}
        return self._client.send(
            Call("DELETE", "/v1/admin/caches", lambda data: wire.load(CachesCleared, data), params=params)
        )

    def latencies(self) -> Sequence[Latency]:
        """How long requests to providers took in the mean, by model and by how many texts they had."""
        return self._client.send(costs.latencies())

    def _get(self, path: str, kind: type[T], asked: Mapping[str, Any] | None = None) -> T:
        params = {name: str(value) for name, value in (asked or {}).items() if value is not None}
        return self._client.send(Call("GET", f"/v1/admin{path}", lambda data: wire.load(kind, data), params=params))

    def _post(self, path: str, body: dict[str, Any]) -> bytes:
        return self._client.send(Call("POST", f"/v1/admin{path}", lambda data: data, json.dumps(body).encode()))


def _knob(knob: Knob | str) -> str:
    return f"/v1/admin/knobs/{quote(str(knob), safe='')}"


def _period(word: str) -> Period:
    """A period by its word.

    Raises:
        InvalidInput: there is none such.
    """
    try:
        return Period(word)
    except ValueError:
        raise InvalidInput([FieldError("period", "must be day or month")]) from None
