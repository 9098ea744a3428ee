"""Marks: a shard that was just woken is not woken again. Kept in Redis with a short life; without it all wake.

A mark bears the name of the wake-up that it stands for, and goes when that one is taken up, not with another: else two
wake-ups for the same shard would go round in the queue for as long as it has work, and each sweep would add one.
"""

from typing import Protocol
from uuid import uuid4

import redis
import structlog

from memlane.storage.failures import reason_of

log = structlog.get_logger(__name__)

_PREFIX = "memlane:awake"


class Marks(Protocol):
    """Who was woken lately; an answer may be wrong, which costs a needless message or a few seconds."""

    def set(self, drain: str, shard: int) -> str | None:
        """Mark a shard as woken; the name of the wake-up, or None if it was already."""

    def renew(self, drain: str, shard: int) -> str:
        """Mark a shard as woken again, whatever was before; the name of the wake-up."""

    def clear(self, drain: str, shard: int, name: str | None = None) -> None:
        """A drain begins to look: what comes from now on has to wake somebody, unless another wake-up is under way.

        Args:
            drain: the task.
            shard: where.
            name: of the wake-up that began it; None: that of a version that named none.
        """


class NoMarks:
    """Without Redis every wake-up is sent."""

    def set(self, drain: str, shard: int) -> str | None:  # noqa: ARG002  # nobody to tell
        """Always new."""
        return uuid4().hex

    def renew(self, drain: str, shard: int) -> str:  # noqa: ARG002
        """Always new."""
        return uuid4().hex

    def clear(self, drain: str, shard: int, name: str | None = None) -> None:
        """Nothing to clear."""


_CLEAR = """
local there = redis.call('GET', KEYS[1])
if there == ARGV[1] or ARGV[1] == '' then redis.call('DEL', KEYS[1]) end
"""


class RedisMarks:
    """Marks shared by all processes; a Redis that does not answer marks nothing."""

    def __init__(self, url: str, life_s: float) -> None:
        self._client = redis.Redis.from_url(url, socket_timeout=1.0, socket_connect_timeout=1.0)
        self._clear = self._client.register_script(_CLEAR)
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

    def clear(self, drain: str, shard: int, name: str | None = None) -> None:
        """A drain begins to look."""
        try:
            self._clear(keys=[f"{_PREFIX}:{drain}:{shard}"], args=[name or ""])
        except redis.RedisError as error:
            self._note(error)

    def _note(self, error: redis.RedisError) -> None:
        """Say once that Redis does not answer, until it does again."""
        if not self._down:
            self._down = True
            log.warning("marks.down", why=reason_of(error) or type(error).__name__)


def make_marks(url: str | None, life_s: float) -> Marks:
    """Marks in Redis, or none without it."""
    return RedisMarks(url, life_s) if url else NoMarks()
