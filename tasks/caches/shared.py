"""The second level: what processes share in Redis. It may be wiped at any moment, hang or be away: nobody waits for it.

What was answered to an agent is one hash, which goes as a whole when the agent forgets something, and in any case
after its time; the vectors of questions are keys of their own. No key is without an expiry:

    memlane:cache:answers:SHARD:AGENT    fields: digests of version and question; values: answers
    memlane:cache:vector:DIGEST          half-precision vectors
"""

import zlib
from collections.abc import Callable
from threading import Lock
from time import monotonic
from typing import TypeVar, cast

import redis
import structlog
from redis.backoff import NoBackoff
from redis.retry import Retry

from memlane.storage.failures import reason_of

log = structlog.get_logger(__name__)

T = TypeVar("T")

PATIENCE_S = 0.05
"""How long Redis is waited for: asking Postgres takes no longer."""

_AGAIN_S = 1.0
"""How long after a failure it is left alone; then one call tries whether it is back."""

_MOST_FIELDS = 1024
"""How many answers of one agent are kept at most, of all its versions."""

_MOST_BYTES = 1024 * 1024
"""How large an answer is at most."""

_PREFIX = "memlane:cache"

_PLAIN, _COMPRESSED = b"p", b"z"
"""What a value begins with."""

_KEEP = f"""
if redis.call('HLEN', KEYS[1]) >= {_MOST_FIELDS} then redis.call('UNLINK', KEYS[1]) end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
if redis.call('PTTL', KEYS[1]) < 0 then redis.call('PEXPIRE', KEYS[1], ARGV[3]) end
"""
"""The time of a hash begins with its first field and is not put off by others, so that what it holds goes with it."""


class SharedCache:
    """The caches' Redis; where it does not answer, nothing is known and nothing is kept.

    Args:
        url: of Redis.
        ttl_s: how long answers are kept.
        question_ttl_s: how long vectors are.
        compress_bytes: from which size on answers are compressed.
    """

    def __init__(self, url: str, ttl_s: float, question_ttl_s: float, compress_bytes: int) -> None:
        self._client = redis.Redis.from_url(
            url, socket_timeout=PATIENCE_S, socket_connect_timeout=PATIENCE_S, retry=Retry(NoBackoff(), 0)
        )
        self._keep = self._client.register_script(_KEEP)
        self._ttl_ms, self._question_ttl_ms = int(ttl_s * 1000), int(question_ttl_s * 1000)
        self._compress_bytes = compress_bytes
        self._again_at: float | None = None
        self._lock = Lock()

    def answer(self, shard: int, agent: int, field: bytes) -> bytes | None:
        """What was kept of an agent."""
        found = self._try(lambda: self._client.hget(_answers(shard, agent), cast(str, field)))
        return None if found is None else _opened(cast(bytes, found))

    def keep_answer(self, shard: int, agent: int, field: bytes, value: bytes) -> None:
        """Keep something of an agent."""
        small = len(value) < self._compress_bytes
        packed = _PLAIN + value if small else _COMPRESSED + zlib.compress(value, 1)
        if len(packed) <= _MOST_BYTES:
            self._try(lambda: self._keep(keys=[_answers(shard, agent)], args=[field, packed, self._ttl_ms]))

    def drop_answers(self, shard: int, agents: list[int]) -> None:
        """Let go of all that was kept of agents."""
        if agents:
            self._try(lambda: self._client.unlink(*(_answers(shard, agent) for agent in agents)))

    def vector(self, digest: bytes) -> bytes | None:
        """The vector of a question."""
        return cast(bytes | None, self._try(lambda: self._client.get(f"{_PREFIX}:vector:{digest.hex()}")))

    def keep_vector(self, digest: bytes, value: bytes) -> None:
        """Keep the vector of a question."""
        self._try(lambda: self._client.set(f"{_PREFIX}:vector:{digest.hex()}", value, px=self._question_ttl_ms))

    def clear(self) -> None:
        """Let go of everything, as far as Redis answers; what stays has an expiry."""
        self._try(self._clear)

    def _clear(self) -> None:
        batch: list[bytes] = []
        for key in self._client.scan_iter(f"{_PREFIX}:*", count=1000):
            batch.append(key)
            if len(batch) >= 1000:
                self._client.unlink(*batch)
                batch.clear()
        if batch:
            self._client.unlink(*batch)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _try(self, call: Callable[[], T]) -> T | None:
        """What Redis answers; None where it does not, or did not a moment ago."""
        if not self._may_try():
            return None
        try:
            answer = call()
        except redis.RedisError as error:
            self._note(error)
            return None
        if self._again_at is not None:
            self._again_at = None
            log.info("caches.shared_again")
        return answer

    def _may_try(self) -> bool:
        if self._again_at is None:
            return True
        with self._lock:
            now = monotonic()
            if self._again_at is None or now >= self._again_at:
                self._again_at = now + _AGAIN_S
                return True
            return False

    def _note(self, error: redis.RedisError) -> None:
        with self._lock:
            first, self._again_at = self._again_at is None, monotonic() + _AGAIN_S
        if first:
            log.warning("caches.not_shared", why=reason_of(error) or type(error).__name__)


def _answers(shard: int, agent: int) -> str:
    return f"{_PREFIX}:answers:{shard}:{agent}"


def _opened(packed: bytes) -> bytes | None:
    """What was kept; None if it cannot be read."""
    try:
        return zlib.decompress(packed[1:]) if packed[:1] == _COMPRESSED else packed[1:]
    except zlib.error:
        return None
