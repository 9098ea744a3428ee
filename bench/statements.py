"""Our SQL alone: the very statements of accept, claim and finish, with vectors that are given, and nobody in between.

What `make bench` calls the limit of our SQL, and what fills large agents in seconds.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from memlane.contract import MemoryItem
from memlane.storage import jobs, memories
from memlane.storage.cluster import Shard
from memlane.storage.halfvec import Matrix
from memlane.storage.jobs import NO_DELAY, Kind, Terms
from memlane.tasks import accept
from memlane.tasks.lane import Lane

BATCH = 100


@dataclass(frozen=True, slots=True)
class Statements:
    """The statements on one shard, for one tenant.

    Attributes:
        lane: whose connections they go over: one, since one waits for the other.
        tenant: whose memories they store.
        shard: where.
        claim_size: how many jobs are claimed and finished together.
    """

    lane: Lane
    tenant: str
    shard: Shard
    claim_size: int

    def store(self, items: Iterable[Sequence[MemoryItem]], vectors: Matrix) -> int:
        """Accept batches, and claim and finish whenever there is a full claim, and at the end; how many were stored.

        Args:
            items: batches of items of agents of the shard.
            vectors: taken one after the other, and again from the first; shape (count, dims).
        """
        taken = stored = 0
        for batch in items:
            self._accept(batch)
            taken += len(batch)
            while taken - stored >= self.claim_size:
                stored += self._finish(vectors, stored)
        while stored < taken:
            stored += self._finish(vectors, stored)
        return stored

    def _accept(self, batch: Sequence[MemoryItem]) -> None:
        parts = accept.place(self.lane, self.tenant, batch, atomic=False)
        ((number, part),) = parts.items()
        for result in accept.on_shard(self.lane, self.tenant, number, part).values():
            if isinstance(result, Exception):
                raise result

    def _finish(self, vectors: Matrix, at: int) -> int:
        claim = jobs.claim(self.shard, Kind.REMEMBER, Terms("bench", 60.0, self.claim_size))
        if claim is None:
            raise LookupError("what was accepted is not there to be claimed")
        given = {job.number: vectors[(at + place) % len(vectors)] for place, job in enumerate(claim.jobs)}
        lane = self.lane
        done = memories.store(self.shard, claim, given, lane.table, lane.settings.text_search, NO_DELAY)
        return done.stored
