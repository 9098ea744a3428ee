"""Accept rates: how many items a tenant, and each of its agents, may hand over in a minute.

They are counted in Redis, so that all gateways and workers share them. While Redis does not answer, each process counts
alone, which lets more through than was meant, and nobody waits for it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from threading import Lock
from time import monotonic

import redis
import structlog

from memlane.contract.status import TenantLimits
from memlane.errors import FieldError, InvalidInput, MemlaneError, RateLimited
from memlane.storage.failures import reason_of
from memlane.storage.terms import Terms
from memlane.tasks.counts import WINDOW_S, Asked, Counted, Counts, OwnCounts, RedisCounts, Window

log = structlog.get_logger(__name__)

_AGAIN_S = 1.0
"""How long after a failure Redis is left alone; then one call tries whether it is back."""


@dataclass(frozen=True, slots=True)
class Policy:
    """A rate that holds for a request.

    Attributes:
        name: `tenant` or `agent`.
        quota: items a minute.
        left: how many of them are left; of several agents, of the one that has least.
        resets_s: in how many seconds there is more: when the minute that is counted ends, or the next item has room.
    """

    name: str
    quota: int
    left: int
    resets_s: float


@dataclass(frozen=True, slots=True)
class Rated:
    """What the rates say to items that are handed over.

    Attributes:
        refused: by agent, why its items are refused; the others were counted.
        policies: the rates that hold; none for a tenant without limits.
    """

    refused: Mapping[str, MemlaneError] = field(default_factory=dict)
    policies: Sequence[Policy] = ()


class TooManyAtOnce(InvalidInput):
    """So many at once that they could never pass.

    Attributes:
        limit: `tenant` or `agent`.
    """

    def __init__(self, fields: Sequence[FieldError], *, limit: str) -> None:
        super().__init__(fields)
        self.limit = limit


class Rates:
    """The rates of all tenants, for one process.

    Args:
        terms: what a tenant may do.
        shared: counts for all processes, if there is somebody who does.
    """

    def __init__(self, terms: Callable[[str], TenantLimits], shared: Counts | None) -> None:
        self._terms = terms
        self._shared = shared
        self._own = OwnCounts()
        self._down = False
        self._late = False
        self._again_at = 0.0
        self._lock = Lock()

    @property
    def alone(self) -> bool:
        """Whether this process counts alone."""
        return self._shared is None or self._down

    def limited(self, tenant: str) -> bool:
        """Whether a tenant has a rate at all; asks nobody."""
        limits = self._terms(tenant)
        return limits.rate is not None or limits.agent_rate is not None

    def take(self, tenant: str, agents: Mapping[str, int], *, alone: bool = False) -> Rated:
        """Count items, where there is room for them.

        Args:
            tenant: whose they are.
            agents: how many for each agent; all items of one agent are let through, or none, and none of the whole if
                the tenant has no room for what its agents let through.
            alone: do not wait for Redis.
        """
        limits = self._terms(tenant)
        if limits.rate is None and limits.agent_rate is None:
            return Rated()
        hopeless = _hopeless(limits, agents)
        asked = {name: count for name, count in agents.items() if name not in hopeless}
        own = [Asked(_key(tenant, name), limits.agent_rate, n) for name, n in asked.items() if limits.agent_rate]
        free = 0 if limits.agent_rate else sum(asked.values())
        whole = Asked(_key(tenant), limits.rate, free) if limits.rate else None
        counted, found = self._counted(whole, own, alone)
        each = dict(zip(asked, zip(own, found, strict=True), strict=True)) if own else {}
        refused = hopeless | {name: _over_agent(one, of) for name, (one, of) in each.items() if not of.fits}
        if counted is not None and whole is not None and not counted.fits:
            total = sum(asked[name] for name in asked if name not in refused)
            over = _over_tenant(whole, counted, total)
            refused |= {name: over for name in asked if name not in refused}
        return Rated(refused, _policies(whole, counted, own, found))

    def _counted(
        self, tenant: Asked | None, agents: Sequence[Asked], alone: bool
    ) -> tuple[Counted | None, Sequence[Counted]]:
        shared = self._shared
        if shared is None or alone or not self._may_try():
            return self._own.take(tenant, agents)
        try:
            answer = shared.take(tenant, agents)
        except redis.RedisError as error:
            self._note(error)
            return self._own.take(tenant, agents)
        self._late = False
        if self._down:
            self._down = False
            log.info("rates.shared_again")
        return answer

    def _may_try(self) -> bool:
        """Whether Redis is asked: while it is down, by one call now and then."""
        if not self._down:
            return True
        with self._lock:
            if monotonic() < self._again_at:
                return False
            self._again_at = monotonic() + _AGAIN_S
            return True

    def _note(self, error: redis.RedisError) -> None:
        """Say once that Redis does not answer, until it does again. One answer that is late may be a slow disk's."""
        with self._lock:
            if isinstance(error, redis.TimeoutError) and not self._late:
                self._late = True
                return
            self._again_at = monotonic() + _AGAIN_S
            first, self._down = not self._down, True
        if first:
            log.warning("rates.counted_alone", why=reason_of(error) or type(error).__name__)


def make_rates(terms: Terms, url: str | None) -> Rates:
    """Rates that are shared through a Redis, or of this process alone without one."""
    return Rates(terms.of, RedisCounts(url) if url else None)


def _key(tenant: str, agent: str | None = None) -> str:
    """By what is counted: not by the agent's name, which may be long, or somebody's."""
    if agent is None:
        return f"memlane:rate:{tenant}"
    return f"memlane:rate:{tenant}:{blake2b(agent.encode(), digest_size=16).hexdigest()}"


def _hopeless(limits: TenantLimits, agents: Mapping[str, int]) -> dict[str, MemlaneError]:
    """What could never pass, by agent."""
    if limits.rate is not None and (total := sum(agents.values())) > limits.rate:
        return dict.fromkeys(agents, _too_many(total, "tenant", limits.rate))
    if limits.agent_rate is None:
        return {}
    return {n: _too_many(c, "agent", limits.agent_rate) for n, c in agents.items() if c > limits.agent_rate}


def _too_many(count: int, name: str, limit: int) -> TooManyAtOnce:
    whose = "the tenant's" if name == "tenant" else "an agent's"
    detail = f"{count} at once can never pass {whose} rate of {limit} a minute: send fewer at once"
    return TooManyAtOnce([FieldError("memories", detail)], limit=name)


def _over_agent(asked: Asked, found: Counted) -> RateLimited:
    detail = f"over the agent's rate of {asked.limit} items a minute"
    return RateLimited(detail, found.window.room_in_s(asked.limit, asked.cost), limit="agent")


def _over_tenant(asked: Asked, found: Counted, total: int) -> RateLimited:
    detail = f"over the tenant's rate of {asked.limit} items a minute"
    return RateLimited(detail, found.window.room_in_s(asked.limit, total), limit="tenant")


def _policies(
    tenant: Asked | None, counted: Counted | None, agents: Sequence[Asked], found: Sequence[Counted]
) -> list[Policy]:
    told = [("tenant", tenant, counted)] if tenant and counted else []
    if agents:
        least = min(range(len(agents)), key=lambda n: found[n].window.left(agents[n].limit))
        told.append(("agent", agents[least], found[least]))
    return [
        Policy(name, asked.limit, of.window.left(asked.limit), _resets_s(asked.limit, of.window))
        for name, asked, of in told
    ]


def _resets_s(limit: int, window: Window) -> float:
    return WINDOW_S - window.gone_s if window.left(limit) else window.room_in_s(limit, 1)
