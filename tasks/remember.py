"""Remember: finish remember jobs. One request to the provider for all claims, one transaction on the shard of each."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NoReturn, TypeAlias

from memlane.contract import spoken
from memlane.storage import memories
from memlane.storage.cluster import Shard
from memlane.storage.jobs import Claim, Done, Job
from memlane.tasks import embedding
from memlane.tasks.embedding import Vectors
from memlane.tasks.lane import Lane
from memlane.tasks.provider import Wanted

_PATIENCE_S = 0.5
"""How long the provider's limits are waited for: longer, and the memories are stored without vectors first."""

Finish: TypeAlias = Callable[[], Done]
"""What is left to do for one claim; it raises what went wrong with that one."""


def remember(lane: Lane, shard: Shard, claim: Claim) -> Done:
    """Write claimed memories with their vectors; those that the provider refuses get theirs later.

    Raises:
        NodeDown, ShardMoved, Unavailable: nothing was written, or it is not known; the lease decides.
    """
    (finish,) = embed_together(lane, [(shard, claim)])
    return finish()


def embed_together(lane: Lane, parts: Sequence[tuple[Shard, Claim]]) -> list[Finish]:
    """Get the vectors of several claims of shards on one node at once; what is left to do for each of them."""
    wanted: dict[int, Mapping[int, Wanted]] = {}
    failed: dict[int, Exception] = {}
    for place, (shard, claim) in enumerate(parts):
        try:
            wanted[place] = embedding.wanted(lane, shard, {job: text_of(job) for job in claim.jobs})
        except Exception as error:  # noqa: BLE001  # it harms this claim only
            failed[place] = error
    texts = {(place, number): one for place, here in wanted.items() for number, one in here.items()}
    vectors = embedding.embed(lane, texts, _PATIENCE_S, before=parts[0][0])
    return [
        partial(_raise, failed[place])
        if place in failed
        else partial(_finish, lane, shard, claim, wanted[place], _of_part(vectors, place))
        for place, (shard, claim) in enumerate(parts)
    ]


def _of_part(vectors: Vectors[tuple[int, int]], place: int) -> Vectors[int]:
    return Vectors(
        {number: vector for (of, number), vector in vectors.found.items() if of == place},
        {number: refusal for (of, number), refusal in vectors.refusals.items() if of == place},
    )


def _finish(lane: Lane, shard: Shard, claim: Claim, texts: Mapping[int, Wanted], vectors: Vectors[int]) -> Done:
    done = memories.store(shard, claim, vectors.found, lane.table, lane.settings.text_search, vectors.delays)
    if not done.fenced and done.stored < len(claim.jobs):
        embedding.let_go(lane, shard, claim, texts)
    return done


def _raise(error: Exception) -> NoReturn:
    raise error


def text_of(job: Job) -> str:
    """What is searched and embedded of a remember job."""
    return spoken(job.payload.get("speaker"), job.payload["content"])
