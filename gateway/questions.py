"""The vectors of questions: from the cache or from the provider, each in threads of its own.

A recall works in the threads of its agent's node only once the vector is there. So neither a
provider nor another node that hangs can use them up.
"""

from functools import partial

import structlog

from memlane.config.settings import Settings
from memlane.errors import MemlaneError, Unavailable
from memlane.gateway.threads import NodeThreads, Threads
from memlane.storage import embedding_cache
from memlane.storage.embedding_cache import Text
from memlane.storage.halfvec import Vector
from memlane.storage.hashing import text_hash
from memlane.storage.spending import Group
from memlane.tasks.lane import Lane
from memlane.tasks.provider import Wanted

log = structlog.get_logger(__name__)

_CACHE_S = 0.25
"""How long the cache is waited for: it may miss."""

_PATIENCE_S = 1.0
"""How long the provider's limits are waited for: words alone find most of what is asked for."""


class Questions:
    """Finds the vectors of questions."""

    def __init__(self, lane: Lane, threads: NodeThreads, settings: Settings) -> None:
        self._lane = lane
        self._threads = threads
        self._provider = Threads("the provider", settings.gateway_threads, settings.gateway_queue, settings.question_s)

    def close(self) -> None:
        """Let go of the threads."""
        self._provider.close()

    async def vector(self, group: Group, question: str) -> tuple[Vector | None, MemlaneError | None]:
        """The vector of a question, or why there is none in time; the group pays for it."""
        known = await self._cached(Text(group.tenant, text_hash(question)))
        if known is not None:
            return known, None
        try:
            wanted = [Wanted(group, question)]
            answer = await self._provider.run(lambda: self._lane.provider.embed(wanted, _PATIENCE_S))
        except Unavailable as error:
            return None, error
        return answer.vectors.get(0), answer.refusals.get(0)

    async def _cached(self, text: Text) -> Vector | None:
        cluster = self._lane.cluster
        shard = cluster.shard_of_text(text.tenant, text.hash)
        find = partial(embedding_cache.find, cluster, self._lane.model.name, [text])
        try:
            found = await self._threads.on_shard(shard, find, _CACHE_S)
        except Unavailable as error:
            log.info("question.cache_missed", shard=shard, why=str(error))
            return None
        return found[text].vector if text in found else None
