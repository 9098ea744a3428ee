"""Remember: finish a batch of remember jobs. One request to the provider, one transaction on the shard."""

from memlane.contract import spoken
from memlane.storage import memories
from memlane.storage.cluster import Shard
from memlane.storage.jobs import Claim, Done, Job
from memlane.tasks import embedding
from memlane.tasks.lane import Lane

_PATIENCE_S = 0.5
"""How long the provider's limits are waited for: longer, and the memories are stored without vectors first."""


def remember(lane: Lane, shard: Shard, claim: Claim) -> Done:
    """Write claimed memories with their vectors; those that the provider refuses get theirs later.

    Raises:
        NodeDown, ShardMoved, Unavailable: nothing was written, or it is not known; the lease decides.
    """
    texts = embedding.wanted(lane, shard, {job: text_of(job) for job in claim.jobs})
    vectors = embedding.embed(lane, texts, _PATIENCE_S, before=shard)
    done = memories.store(shard, claim, vectors.found, lane.table, lane.settings.text_search, vectors.delays)
    if not done.fenced and done.stored < len(claim.jobs):
        embedding.let_go(lane, shard, claim, texts)
    return done


def text_of(job: Job) -> str:
    """What is searched and embedded of a remember job."""
    return spoken(job.payload.get("speaker"), job.payload["content"])
