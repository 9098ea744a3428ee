"""Marks: a shard that was just woken is not woken again. Kept in Redis with a short life; without it all wake."""

from typing import Protocol

import redis
import structlog

from memlane.storage.failures import reason_of

log = structlog.get_logger(__name__)

_PREFIX = "memlane:awake"


class Marks(Protocol):
    """Who was woken lately; an answer may be wrong, which costs a needless message or a few seconds."""

    def set(self, drain: str, shard: int) -> bool:
        """Mark a shard as woken; False if it was already."""

    def clear(self, drain: str, shard: int) -> None:
        """A drain begins to look: what comes from now on has to wake somebody again."""


class NoMarks:
    """Without Redis every wake-up is sent."""

    def set(self, drain: str, shard: int) -> bool:  # noqa: ARG002  # nobody to tell
        """Always new."""
        return True

    def clear(self, drain: str, shard: int) -> None:
        """Nothing to clear."""


class RedisMarks:
    """Marks shared by all processes; a Redis that does not answer marks nothing."""

    def __init__(self, url: str, life_s: float) -> None:
        self._client = redis.Redis.from_url(url, socket_timeout=1.0, socket_connect_timeout=1.0)
        self._life_ms = int(life_s * 1000)
        self._down = False

    def set(self, drain: str, shard: int) -> bool:
        """Mark a shard as woken; False if it was already."""
        try:
            new = bool(self._client.set(f"{_PREFIX}:{drain}:{shard}", 1, nx=True, px=self._life_ms))
        except redis.RedisError as error:
            self._note(error)
            return True
        self._down = False
        return new

    def clear(self, drain: str, shard: int) -> None:
        """A drain begins to look."""
        try:
            self._client.delete(f"{_PREFIX}:{drain}:{shard}")
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
