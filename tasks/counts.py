"""Counts of what was handed over lately, by a sliding window: shared by all processes in Redis, or kept by one alone.

As much of the minute before counts as the window of a minute that ends now still covers (the approximation is
Cloudflare's: https://blog.cloudflare.com/counting-things-a-lot-of-different-things/). A call asks for a tenant and any
number of its agents at once: what an agent has no room for is not counted, and what the tenant has no room for counts
nowhere.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor
from threading import Lock
from time import time
from typing import Protocol

import redis
from cachetools import LRUCache
from redis.backoff import NoBackoff
from redis.retry import Retry

WINDOW_S = 60
"""Rates are counted over so many seconds."""

PATIENCE_S = 0.05
"""How long Redis is waited for: this is on the way of each request."""

_MOST = 100_000
"""How many tenants and agents a process counts for on its own."""


@dataclass(frozen=True, slots=True)
class Window:
    """What was counted for somebody: in the minute before, in this one, and how many seconds of it are gone."""

    before: int
    now: int
    gone_s: float

    def used(self) -> float:
        """How much of the rate is used."""
        return self.before * (1 - self.gone_s / WINDOW_S) + self.now

    def left(self, limit: int) -> int:
        """How much of the rate is left."""
        return max(0, floor(limit - self.used()))

    def room_in_s(self, limit: int, cost: int) -> float:
        """In how many seconds there is room for something that costs no more than the limit, if nobody else comes."""
        spare = limit - cost
        rest_s = WINDOW_S - self.gone_s
        if self.now <= spare:  # enough of the minute before will be gone before this one ends
            over = self.used() - spare
            return 0.0 if over <= 0 else over * WINDOW_S / self.before
        return rest_s + WINDOW_S * (1 - spare / self.now)


@dataclass(frozen=True, slots=True)
class Asked:
    """What one of a tenant's agents, or the tenant itself, hands over; by which key it is counted, and its limit."""

    key: str
    limit: int
    cost: int


@dataclass(frozen=True, slots=True)
class Counted:
    """Whether there was room, and the window then."""

    fits: bool
    window: Window


class Counts(Protocol):
    """Somebody who counts."""

    def take(self, tenant: Asked | None, agents: Sequence[Asked]) -> tuple[Counted | None, Sequence[Counted]]:
        """Count what there is room for; the tenant's cost is that of items whose agents have no limit.

        Returns:
            The tenant's outcome, None if it has no limit; and each agent's. Where the tenant has no room, nothing is
            counted for its agents either.
        """


_SCRIPT = """
local at = redis.call('TIME')
local window = tonumber(ARGV[1])
local now = at[1] * 1000 + math.floor(at[2] / 1000)
local slot, gone = math.floor(now / window), now % window
local answer, agents, total = {gone}, {}, tonumber(ARGV[3])

local function found(key)
    local kept = redis.call('HMGET', key, 'slot', 'now', 'before')
    local of, count, before = tonumber(kept[1]) or 0, tonumber(kept[2]) or 0, tonumber(kept[3]) or 0
    if of == slot then return {key, count, before, false} end
    if of == slot - 1 then return {key, 0, count, true} end
    return {key, 0, 0, true}
end
local function fits(one, limit, cost)
    return one[3] * (1 - gone / window) + one[2] + cost <= limit
end
local function add(one, cost)
    if cost > 0 then
        one[2] = one[2] + cost
        redis.call('HSET', one[1], 'slot', slot, 'now', one[2], 'before', one[3])
        if one[4] then redis.call('PEXPIRE', one[1], 2 * window) end
    end
end
local function say(one, did)
    answer[#answer + 1] = did and 1 or 0
    answer[#answer + 1] = one[2]
    answer[#answer + 1] = one[3]
end

for i = 2, #KEYS do
    local limit, cost = tonumber(ARGV[2 * i]), tonumber(ARGV[2 * i + 1])
    local one = found(KEYS[i])
    one.did, one.cost = fits(one, limit, cost), cost
    if one.did then total = total + cost end
    agents[#agents + 1] = one
end
local limit = tonumber(ARGV[2])
local tenant = found(KEYS[1])
local room = limit == 0 or fits(tenant, limit, total)
if room and limit > 0 then add(tenant, total) end
say(tenant, room)
for _, one in ipairs(agents) do
    if one.did and room then add(one, one.cost) end
    say(one, one.did)
end
return answer
"""


class RedisCounts:
    """Counts that all processes share; one script, and so one round trip, for all that a request asks for.

    Raises:
        redis.RedisError: it does not answer within `PATIENCE_S`.
    """

    def __init__(self, url: str) -> None:
        self._client = redis.Redis.from_url(
            url, socket_timeout=PATIENCE_S, socket_connect_timeout=PATIENCE_S, retry=Retry(NoBackoff(), 0)
        )
        self._script = self._client.register_script(_SCRIPT)

    def take(self, tenant: Asked | None, agents: Sequence[Asked]) -> tuple[Counted | None, Sequence[Counted]]:
        """As in `Counts`."""
        first = tenant or Asked("memlane:rate", 0, 0)
        asked = [first, *agents]
        arguments = [WINDOW_S * 1000, *(value for one in asked for value in (one.limit, one.cost))]
        gone_ms, *rest = self._script(keys=[one.key for one in asked], args=arguments)
        found = [
            Counted(bool(did), Window(before, now, gone_ms / 1000))
            for did, now, before in zip(rest[::3], rest[1::3], rest[2::3], strict=True)
        ]
        return found[0] if tenant else None, found[1:]


class OwnCounts:
    """Counts of this process alone."""

    def __init__(self) -> None:
        self._kept: LRUCache[str, tuple[int, int, int]] = LRUCache(_MOST)
        self._lock = Lock()

    def take(self, tenant: Asked | None, agents: Sequence[Asked]) -> tuple[Counted | None, Sequence[Counted]]:
        """As in `Counts`."""
        slot, gone_s = divmod(time(), WINDOW_S)
        with self._lock:
            windows = {one.key: self._window(one.key, int(slot), gone_s) for one in (*agents, *_some(tenant))}
            fit = {one.key: windows[one.key].used() + one.cost <= one.limit for one in agents}
            total = sum(one.cost for one in agents if fit[one.key]) + (tenant.cost if tenant else 0)
            room = tenant is None or windows[tenant.key].used() + total <= tenant.limit
            costs = {one.key: one.cost for one in agents if fit[one.key]} | {one.key: total for one in _some(tenant)}
            for key, cost in costs.items() if room else ():
                windows[key] = self._add(windows[key], key, int(slot), cost)
        told = [Counted(fit[one.key], windows[one.key]) for one in agents]
        return (Counted(room, windows[tenant.key]) if tenant else None), told

    def _window(self, key: str, slot: int, gone_s: float) -> Window:
        of, now, before = self._kept.get(key, (slot, 0, 0))
        if of == slot:
            return Window(before, now, gone_s)
        return Window(now if of == slot - 1 else 0, 0, gone_s)

    def _add(self, window: Window, key: str, slot: int, cost: int) -> Window:
        self._kept[key] = (slot, window.now + cost, window.before)
        return Window(window.before, window.now + cost, window.gone_s)


def _some(tenant: Asked | None) -> tuple[Asked, ...]:
    return (tenant,) if tenant else ()
