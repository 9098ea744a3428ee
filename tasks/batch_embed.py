"""Batch embed: vectors for texts that will be asked for, and for memories that have none of this model yet."""

from collections.abc import Sequence
from dataclasses import replace
from time import monotonic
from uuid import UUID, uuid5

from memlane.contract.requests import EmbeddingsRequest
from memlane.errors import Unavailable
from memlane.storage import agents, jobs, memories, models
from memlane.storage.cluster import Shard
from memlane.storage.hashing import text_hash
from memlane.storage.jobs import Claim, Done, Kind
from memlane.storage.spending import OVER_BUDGET
from memlane.tasks import embedding
from memlane.tasks.lane import Lane

_PATIENCE_S = 10.0
"""How long the provider's limits are waited for."""

_RESUMING_S = 2.0
"""How long one call makes jobs due: it has one of the few threads in which a gateway asks the node."""

_TEXTS = UUID("3b1d0a54-9a0e-5c3f-8f0b-6d656d6c616e")
"""The name space of ids of texts that belong to no agent."""


def place(lane: Lane, tenant: str, wanted: EmbeddingsRequest) -> dict[int, Sequence[str]]:
    """On which shards to ask for embeddings, and for which texts there; for no text where memories are meant."""
    if wanted.agent:
        return {lane.cluster.shard_of(tenant, wanted.agent): ()}
    if not wanted.texts:
        return dict.fromkeys(range(lane.cluster.shard_count), ())
    parts: dict[int, list[str]] = {}
    for text in dict.fromkeys(wanted.texts):
        parts.setdefault(lane.cluster.shard_of_text(tenant, text_hash(text)), []).append(text)
    return dict(parts)


def on_shard(lane: Lane, tenant: str, wanted: EmbeddingsRequest, number: int, texts: Sequence[str]) -> int:
    """Ask one shard for the embeddings that belong there; how many jobs that made."""
    return open_texts(lane, number, tenant, texts) if texts else open_missing(lane, number, tenant, wanted.agent)


def open_texts(lane: Lane, number: int, tenant: str, texts: Sequence[str]) -> int:
    """Ask for the embeddings of texts to be put into a shard's cache; how many jobs that made."""
    named = [(uuid5(_TEXTS, f"{tenant}:{text}"), text) for text in texts]
    opened = lane.cluster.on(number, lambda shard: jobs.open_texts(shard, tenant, named))
    lane.wake(Kind.TEXT_EMBED, number)
    return opened


def open_missing(lane: Lane, number: int, tenant: str | None, agent: str | None = None) -> int:
    """Ask for the vectors that memories on a shard lack: of one agent, a tenant, or all; how many jobs that made."""

    def work(shard: Shard) -> int:
        if tenant is None:
            return jobs.open_missing(shard, lane.table)
        if agent is None:
            return jobs.open_missing(shard, lane.table, agents.of_tenant(shard, tenant))
        known = lane.numbers.of(shard, tenant, [agent], register=False)
        return jobs.open_missing(shard, lane.table, list(known.values()))

    opened = lane.cluster.on(number, work)
    if opened:
        lane.wake(Kind.EMBED, number)
    return opened


def resume(lane: Lane, number: int, tenant: str | None = None) -> int:
    """Go on with the jobs on a shard that wait for a budget, of a tenant or of all; how many there are.

    It goes in slices, each a transaction, and wakes workers after the first.

    Raises:
        Unavailable: the shard does not answer, or it takes too long for one call; asked again, it gets further.
    """
    until = monotonic() + _RESUMING_S
    resumed, after = _resume_slice(lane, number, tenant, -1)
    if resumed:
        lane.wake(Kind.EMBED, number)
    while after is not None:
        if monotonic() > until:
            raise Unavailable(f"not all that waits on shard {number} could be made due in time: ask again")
        more, after = _resume_slice(lane, number, tenant, after)
        resumed += more
    return resumed


def _resume_slice(lane: Lane, number: int, tenant: str | None, after: int) -> tuple[int, int | None]:
    return lane.cluster.on(number, lambda shard: jobs.resume(shard, tenant, OVER_BUDGET, after))


def backfill(lane: Lane) -> int:
    """Ask for all vectors of the current model that memories lack, on all shards; how many jobs that made."""
    opened = sum(open_missing(lane, number, None) for number in range(lane.cluster.shard_count))
    models.backfilled(lane.cluster.control, lane.model)
    return opened


def embed_memories(lane: Lane, shard: Shard, claim: Claim) -> Done:
    """Finish embed jobs: add the vectors, and put off the jobs whose text the provider refused."""
    texts = memories.texts(shard, claim)
    wanted = embedding.wanted(lane, shard, {job: texts[job.number] for job in claim.jobs if job.number in texts})
    vectors = embedding.embed(lane, wanted, _PATIENCE_S, before=shard)
    done = memories.attach(shard, claim, vectors.found, lane.table, vectors.delays)
    if done.dropped:
        embedding.let_go(lane, shard, claim, wanted)
    return replace(done, refused=vectors.in_vain)


def embed_texts(lane: Lane, shard: Shard, claim: Claim) -> Done:
    """Finish text_embed jobs: the cache has the embeddings now."""
    texts = embedding.wanted(lane, shard, {job: str(job.payload["content"]) for job in claim.jobs})
    vectors = embedding.embed(lane, texts, _PATIENCE_S, before=shard)
    held = jobs.settle(shard, claim.token, list(vectors.found), vectors.delays)
    return Done(searchable=len(vectors.found), fenced=not held, refused=vectors.in_vain)
