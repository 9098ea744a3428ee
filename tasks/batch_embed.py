"""Batch embed: vectors for texts that will be asked for, and for memories that have none of this model yet."""

from collections.abc import Sequence
from functools import partial
from uuid import UUID, uuid5

from memlane.errors import ProviderRefused
from memlane.storage import jobs, memories
from memlane.storage.cluster import Shard
from memlane.storage.hashing import text_hash
from memlane.storage.jobs import Claim, Delay, Done, Kind
from memlane.tasks import embedding
from memlane.tasks.lane import Lane

_TEXTS = UUID("3b1d0a54-9a0e-5c3f-8f0b-6d656d6c616e")
"""The name space of ids of texts that belong to no agent."""


def request_texts(lane: Lane, tenant: str, texts: Sequence[str]) -> int:
    """Ask for the embeddings of texts to be put into the cache; how many jobs that made.

    Raises:
        Unavailable: some of them could not be asked for; asking again does no harm.
    """
    parts: dict[int, dict[str, None]] = {}
    for text in texts:
        parts.setdefault(lane.cluster.shard_of_text(tenant, text_hash(text)), {})[text] = None
    for number, part in parts.items():
        lane.cluster.on(number, partial(_open_texts, tenant, list(part)))
        lane.wake(Kind.TEXT_EMBED, number)
    return sum(map(len, parts.values()))


def _open_texts(tenant: str, texts: Sequence[str], shard: Shard) -> None:
    jobs.open_texts(shard, tenant, [(uuid5(_TEXTS, f"{tenant}:{text}"), text) for text in texts])


def request_missing(lane: Lane, tenant: str | None, agent: str | None = None) -> int:
    """Ask for the vectors that stored memories lack: of one agent, a tenant, or all; how many jobs that made.

    Raises:
        Unavailable: some of them could not be asked for; asking again does no harm.
    """
    if tenant is not None and agent is not None:
        numbers = [lane.cluster.shard_of(tenant, agent)]
    else:
        numbers = list(range(lane.cluster.shard_count))
    opened = 0
    for number in numbers:
        made = lane.cluster.on(number, lambda shard: jobs.open_missing(shard, lane.table, tenant, agent))
        if made:
            lane.wake(Kind.EMBED, number)
        opened += made
    return opened


def embed_memories(lane: Lane, shard: Shard, claim: Claim) -> Done:
    """Finish embed jobs: add the vectors, and put off the jobs whose text the provider refused."""
    texts = memories.texts(shard, claim)
    wanted = {job.number: (job.tenant, texts[job.number]) for job in claim.jobs if job.number in texts}
    vectors = embedding.embed(lane, wanted)
    return memories.attach(shard, claim, vectors.found, lane.table, _delay(vectors.refusal))


def embed_texts(lane: Lane, shard: Shard, claim: Claim) -> Done:
    """Finish text_embed jobs: the cache has the embeddings now."""
    vectors = embedding.embed(lane, {job.number: (job.tenant, str(job.payload["content"])) for job in claim.jobs})
    held = jobs.settle(shard, claim.token, list(vectors.found), _delay(vectors.refusal))
    return Done(searchable=len(vectors.found), fenced=not held, refused=len(vectors.found) < len(claim.jobs))


def _delay(refusal: ProviderRefused | None) -> Delay:
    return Delay(refusal.retry_after_s, str(refusal)) if refusal else Delay(1.0, "the memory is not there yet")
