"""Answers at the door: given again as long as nothing of the agent has changed, from this process or from Redis."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import inf
from typing import TypeVar

import structlog

from memlane import __version__
from memlane.config.settings import Settings
from memlane.contract import Memory
from memlane.contract.recall import Filters
from memlane.contract.upkeep import Knob
from memlane.errors import Unavailable
from memlane.gateway.flights import Flights
from memlane.gateway.threads import NodeThreads, Threads
from memlane.storage import versions
from memlane.storage.cluster import Shard
from memlane.storage.versions import Version
from memlane.tasks import recall
from memlane.tasks.caches.levels import Kept, Kind, Wanted, digest
from memlane.tasks.lane import Lane
from memlane.tasks.recall import Accesses

log = structlog.get_logger(__name__)

T = TypeVar("T")

_SHARED_S = 0.2
"""How long Redis' threads are waited for; each call there gives up sooner."""

_SHARED_THREADS = 2


@dataclass(frozen=True, slots=True)
class Given:
    """What a recall is answered.

    Attributes:
        body: as JSON.
        accesses: by shard, the memories in it.
        hits: how many each agent had that was asked: by shard, number, and up to which number it was forgotten.
        known: whether the question's vector was known.
        embed_ms: how long it took to have that.
    """

    body: bytes
    accesses: Mapping[int, Accesses]
    hits: Mapping[tuple[int, int, int], int]
    known: bool
    embed_ms: float = 0.0


class Answers:
    """Finds and keeps answers.

    Args:
        lane: this process's.
        threads: those of the nodes.
        settings: this process's.
    """

    def __init__(self, lane: Lane, threads: NodeThreads, settings: Settings) -> None:
        self._lane = lane
        self._threads = threads
        self.flights: Flights[Given] = Flights()
        """The recalls that are looked for now."""
        self._shared = Threads("the shared caches", _SHARED_THREADS, settings.gateway_queue, _SHARED_S)

    def close(self) -> None:
        """Let go of the threads."""
        self._shared.close()

    async def wanted(self, kind: Kind, tenant: str, agent: str, request: Filters, shard: int) -> Wanted | None:
        """What is asked, as the agent is now; None where nothing is kept of it: a standby answers, or it is unknown.

        Raises:
            Unavailable: the agent's node does not answer.
        """
        lane = self._lane
        if not lane.caches.on:
            return None

        def work(here: Shard) -> Version | None:
            return versions.of(here, tenant, agent)

        version = await self._threads.on_shard(shard, lambda: recall.on_shard(lane, shard, work))
        return None if version is None else Wanted(kind, version, digest(self._how(), _said(request)))

    def others(self, request: Filters) -> bytes:
        """A digest of all but the question that an answer depends on."""
        return digest(self._how(), _said(request, "query"))

    def _how(self) -> bytes:
        """What an answer depends on beside the agent and the request."""
        settings, knobs = self._lane.settings, self._lane.cluster.knobs
        how = (
            *(__version__, self._lane.model.name, settings.text_search, knobs.of(settings, Knob.EF_SEARCH)),
            *(settings.tiers_from, settings.good_similarity),
        )
        return repr(how).encode()

    async def known(self, wanted: Wanted) -> Kept | None:
        """An answer that some level knows."""
        caches = self._lane.caches
        kept = caches.here(wanted)
        if kept is None and caches.shared is not None:
            kept = await self.shared(lambda: caches.elsewhere(wanted))
        return kept

    def keep(self, wanted: Wanted, body: bytes, numbers: Iterable[int], memories: Iterable[Memory]) -> None:
        """Keep an answer as long as what is in it, and what is superseded by it, can be read as it is."""
        version = wanted.version
        ends = [memory.expires_at.timestamp() for memory in memories if memory.expires_at is not None]
        until_s = min(version.now_s + self._lane.caches.ttl_s, version.until_s or inf, *ends, inf)
        kept = Kept(body, tuple(numbers), version.now_s, until_s)
        self.later(self._lane.caches.keep(wanted, kept))

    def later(self, work: Callable[[], None] | None) -> None:
        """Do work that asks Redis while nobody waits for it; where too much waits already, it is let go."""
        if work is not None:
            self._shared.begin(work)

    async def shared(self, work: Callable[[], T | None]) -> T | None:
        """What Redis knows, if it answers in time."""
        try:
            return await self._shared.run(work)
        except Unavailable as error:
            log.info("caches.missed", why=str(error))
            return None


def _said(request: Filters, *without: str) -> bytes:
    """A request as text, but for whose memory is asked: its version says that."""
    return request.model_dump_json(exclude={"agent", "agents", *without}).encode()
