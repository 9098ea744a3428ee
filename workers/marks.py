"""Marks: a shard that was just woken is not woken again. Kept in Redis with a short life; without it all wake.

A mark bears the name of the wake-up that it stands for, and goes when that one is taken up, not with another: else two
wake-ups for the same shard would go round in the queue for as long as it has work, and each sweep would add one.

A drain with little to do takes up wake-ups of other shards that nobody has begun with. When those come out of the queue
they are told so, and end. While one drain gathers so on a node, others wait for a moment: their wake-ups are for it, or
for whoever gathers next.
"""

from collections.abc import Sequence
from enum import IntEnum
from typing import Protocol
from uuid import uuid4

import redis
import structlog

from memlane.storage.failures import reason_of

log = structlog.get_logger(__name__)

_PREFIX = "memlane:awake"
_TAKEN = "memlane:taken_up"
_TURN = "memlane:gathers"

_TURN_MS = 500
"""How long a turn lasts at most: who waits longer for a provider holds nobody up."""

_REMEMBERED_S = 60
"""How long a wake-up may stay in the queue that was taken up meanwhile; one that comes later makes a needless look."""


class Turn(IntEnum):
    """Whose turn it is on a node to take up what there is."""

    OTHERS = 0
    OURS = 1
    TAKEN_UP = 2
    """Nobody's here: another drain has taken our wake-up up."""


class Marks(Protocol):
    """Who was woken lately; an answer may be wrong, which costs a needless message or a few seconds."""

    def set(self, drain: str, shard: int) -> str | None:
        """Mark a shard as woken; the name of the wake-up, or None if it was already."""

    def renew(self, drain: str, shard: int) -> str:
        """Mark a shard as woken again, whatever was before; the name of the wake-up."""

    def clear(self, drain: str, shard: int, name: str | None = None) -> bool:
        """A drain begins to look: what comes from now on has to wake somebody, unless another wake-up is under way.

        Args:
            drain: the task.
            shard: where.
            name: of the wake-up that began it; None: that of a version that named none.

        Returns:
            Whether it is still to be done: another drain may have taken it up.
        """

    def gather(self, drain: str, node: str, name: str) -> Turn:
        """Ask for the turn on a node, by the name of our wake-up: until it is given back, or for half a second."""

    def gathered(self, drain: str, node: str, name: str) -> None:
        """Give the turn back, if it is ours."""

    def take_up(self, drain: str, shards: Sequence[int]) -> list[int]:
        """Take up the wake-ups that are under way for shards, as if they had come here; for which there were some."""


class NoMarks:
    """Without Redis every wake-up is sent."""

    def set(self, drain: str, shard: int) -> str | None:  # noqa: ARG002  # nobody to tell
        """Always new."""
        return uuid4().hex

    def renew(self, drain: str, shard: int) -> str:  # noqa: ARG002
        """Always new."""
        return uuid4().hex

    def clear(self, drain: str, shard: int, name: str | None = None) -> bool:  # noqa: ARG002
        """Nothing to clear."""
        return True

    def gather(self, drain: str, node: str, name: str) -> Turn:  # noqa: ARG002
        """Nobody knows of others."""
        return Turn.OURS

    def gathered(self, drain: str, node: str, name: str) -> None:
        """Nobody waits for it."""

    def take_up(self, drain: str, shards: Sequence[int]) -> list[int]:  # noqa: ARG002
        """Nobody knows of any."""
        return []


_CLEAR = """
if redis.call('ZREM', KEYS[2], ARGV[1]) == 1 then return 0 end
local there = redis.call('GET', KEYS[1])
if there == ARGV[1] or ARGV[1] == '' then redis.call('DEL', KEYS[1]) end
return 1
"""

_GATHER = """
if redis.call('ZREM', KEYS[2], ARGV[1]) == 1 then return 2 end
return redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) and 1 or 0
"""

_GATHERED = """
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
"""

_TAKE_UP = """
local now = tonumber(redis.call('TIME')[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
local places = {}
for place = 2, #KEYS do
    local name = redis.call('GET', KEYS[place])
    if name then
        redis.call('DEL', KEYS[place])
        redis.call('ZADD', KEYS[1], now + tonumber(ARGV[1]), name)
        places[#places + 1] = place - 2
    end
end
return places
"""
"""The names of those that were taken up are kept in a sorted set, by the time until which they are remembered."""


class RedisMarks:
    """Marks shared by all processes; a Redis that does not answer marks nothing."""

    def __init__(self, url: str, life_s: float) -> None:
        self._client = redis.Redis.from_url(url, socket_timeout=1.0, socket_connect_timeout=1.0)
        self._clear = self._client.register_script(_CLEAR)
        self._gather = self._client.register_script(_GATHER)
        self._gathered = self._client.register_script(_GATHERED)
        self._take_up = self._client.register_script(_TAKE_UP)
        self._life_ms = int(life_s * 1000)
        self._down = False

    def set(self, drain: str, shard: int) -> str | None:
        """Mark a shard as woken, unless it was already."""
        return self._mark(drain, shard, only_new=True)

    def renew(self, drain: str, shard: int) -> str:
        """Mark a shard as woken again."""
        return self._mark(drain, shard, only_new=False) or uuid4().hex

    def _mark(self, drain: str, shard: int, *, only_new: bool) -> str | None:
        name = uuid4().hex
        try:
            new = self._client.set(f"{_PREFIX}:{drain}:{shard}", name, nx=only_new, px=self._life_ms)
        except redis.RedisError as error:
            self._note(error)
            return name
        self._down = False
        return name if new else None

    def clear(self, drain: str, shard: int, name: str | None = None) -> bool:
        """A drain begins to look."""
        try:
            return bool(self._clear(keys=[f"{_PREFIX}:{drain}:{shard}", _TAKEN], args=[name or ""]))
        except redis.RedisError as error:
            self._note(error)
            return True

    def gather(self, drain: str, node: str, name: str) -> Turn:
        """Ask for the turn on a node; without Redis everybody's."""
        try:
            return Turn(self._gather(keys=[f"{_TURN}:{drain}:{node}", _TAKEN], args=[name, _TURN_MS]))
        except redis.RedisError as error:
            self._note(error)
            return Turn.OURS

    def gathered(self, drain: str, node: str, name: str) -> None:
        """Give the turn back."""
        try:
            self._gathered(keys=[f"{_TURN}:{drain}:{node}"], args=[name])
        except redis.RedisError as error:
            self._note(error)

    def take_up(self, drain: str, shards: Sequence[int]) -> list[int]:
        """Take up what is under way."""
        keys = [_TAKEN, *(f"{_PREFIX}:{drain}:{shard}" for shard in shards)]
        try:
            return [shards[place] for place in self._take_up(keys=keys, args=[_REMEMBERED_S])]
        except redis.RedisError as error:
            self._note(error)
            return []

    def _note(self, error: redis.RedisError) -> None:
        """Say once that Redis does not answer, until it does again."""
        if not self._down:
            self._down = True
            log.warning("marks.down", why=reason_of(error) or type(error).__name__)


def make_marks(url: str | None, life_s: float) -> Marks:
    """Marks in Redis, or none without it."""
    return RedisMarks(url, life_s) if url else NoMarks()
