"""The vectors of questions: from this process, Redis, Postgres or the provider, each in threads of its own.

The cache in Postgres keeps a question's vector under the question's normalised text (storage/wording.py), as whoever
asked it first spelt it: the next one who asks it, with other capitals or spaces, is given the same. A text that was
embedded ahead, or is that of a memory, is found as well.

A recall works in the threads of its agent's node only once the vector is there. So neither a
provider nor another node that hangs can use them up.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import structlog

from memlane.config.settings import Settings
from memlane.errors import MemlaneError, Unavailable
from memlane.gateway.answers import Answers
from memlane.gateway.flights import Flights
from memlane.gateway.threads import NodeThreads, Threads
from memlane.storage import embedding_cache
from memlane.storage.embedding_cache import Cached, Text
from memlane.storage.halfvec import Vector
from memlane.storage.hashing import text_hash
from memlane.storage.spending import Group
from memlane.storage.versions import Version
from memlane.storage.wording import cache_key, question_hash
from memlane.tasks.caches.levels import digest
from memlane.tasks.lane import Lane
from memlane.tasks.provider import Wanted

log = structlog.get_logger(__name__)

_CACHE_S = 0.25
"""How long the cache is waited for: it may miss."""

_PATIENCE_S = 1.0
"""How long the provider's limits are waited for: words alone find most of what is asked for."""


Keep = Callable[[Text, Cached], None]
"""Takes the vector of a question that the cache lacks; returns at once."""


@dataclass(frozen=True, slots=True)
class Made:
    """The vector of a question, or why there is none in time; and whether it was known."""

    vector: Vector | None
    refusal: MemlaneError | None = None
    cached: bool = False


class Questions:
    """Finds the vectors of questions.

    Args:
        lane: this process's.
        threads: those of the nodes.
        answers: asks Redis.
        settings: this process's.
        keep: takes the vectors that are new.
    """

    def __init__(self, lane: Lane, threads: NodeThreads, answers: Answers, settings: Settings, keep: Keep) -> None:
        self._lane = lane
        self._threads = threads
        self._answers = answers
        self._near = settings.question_cache and lane.caches.on
        self._flights: Flights[Made] = Flights()
        self._keep = keep if settings.question_cache else lambda _text, _made: None
        self._provider = Threads("the provider", settings.gateway_threads, settings.gateway_queue, settings.question_s)

    def close(self) -> None:
        """Let go of the threads."""
        self._provider.close()

    async def vector(self, group: Group, question: str, version: Version | None = None) -> Made:
        """The vector of a question; the group pays for it.

        Args:
            group: who asks.
            question: what is asked.
            version: of the agent that is asked, if it is known: the process and Redis keep the vector with its epoch.
        """
        near = self._name(group.tenant, question, version) if version is not None and self._near else None
        known = await self._nearby(near) if near is not None else None
        if known is None:
            made = await self._flights.of((group, question), lambda: self._found(group, question))
            if near is not None and made.vector is not None:
                self._answers.later(self._lane.caches.keep_vector(near, made.vector))
        else:
            made = Made(known, cached=True)
        self._lane.measures.cache("questions", hits=int(made.cached), misses=int(not made.cached))
        return made

    def _name(self, tenant: str, question: str, version: Version) -> bytes:
        return digest(version.epoch.bytes, tenant.encode(), self._lane.model.name.encode(), question_hash(question))

    async def _nearby(self, name: bytes) -> Vector | None:
        caches = self._lane.caches
        known = caches.vector(name)
        if known is None and caches.shared is not None:
            known = await self._answers.shared(lambda: caches.shared_vector(name))
        return known

    async def _found(self, group: Group, question: str) -> Made:
        name = Text(group.tenant, cache_key(question_hash(question)))
        known = await self._cached(name)
        if known is None and (known := await self._cached(Text(group.tenant, text_hash(question)))) is not None:
            self._keep(name, known)
        if known is not None:
            return Made(known.vector, cached=True)
        try:
            wanted = [Wanted(group, question)]
            answer = await self._provider.run(lambda: self._lane.provider.embed(wanted, _PATIENCE_S))
        except Unavailable as error:
            return Made(None, error)
        if 0 not in answer.vectors:
            return Made(None, answer.refusals.get(0))
        made = Cached(answer.vectors[0], answer.tokens.get(0))
        self._keep(name, made)
        return Made(made.vector)

    async def _cached(self, text: Text) -> Cached | None:
        cluster = self._lane.cluster
        shard = cluster.shard_of_text(text.tenant, text.hash)
        find = partial(embedding_cache.find, cluster, self._lane.model.name, [text])
        try:
            found = await self._threads.on_shard(shard, find, _CACHE_S)
        except Unavailable as error:
            log.info("question.cache_missed", shard=shard, why=str(error))
            return None
        return found.get(text)
