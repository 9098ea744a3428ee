"""Forget: one memory at once and whole; an agent's memories by a mark that all obey, and then their rows."""

from uuid import UUID

from memlane.storage import agents, forget, ids, jobs
from memlane.storage.cluster import Shard
from memlane.storage.jobs import Claim, Done, Kind
from memlane.tasks import embedding
from memlane.tasks.lane import Lane


def forget_memory(lane: Lane, tenant: str, agent: str, id_: UUID) -> bool:
    """Forget one memory for good; False if it was never accepted.

    Raises:
        Unavailable: it is not known whether it was forgotten; asking again does no harm.
    """

    def work(shard: Shard) -> bool:
        number = lane.numbers.of(shard, tenant, [agent], register=False).get(agent)
        if number is None or not ids.states(shard, [(number, id_)]):
            return False
        gone = forget.forget_memory(shard, tenant, number, id_)
        embedding.drop(lane, tenant, gone.hashes)
        return True

    return lane.cluster.on(lane.cluster.shard_of(tenant, agent), work)


def forget_agent(lane: Lane, tenant: str, agent: str) -> bool:
    """Forget everything accepted for an agent up to now; its rows are removed by a drain. False if unknown.

    Raises:
        Unavailable: it is not known whether it was forgotten; asking again does no harm.
    """
    number = lane.cluster.shard_of(tenant, agent)

    known = lane.cluster.on(number, lambda shard: agents.forget(shard, tenant, agent))
    if known is not None:
        lane.wake(Kind.FORGET, number)
    return known is not None


def remove_forgotten(lane: Lane, shard: Shard, claim: Claim) -> Done:
    """Finish forget jobs: remove the rows in slices."""
    removed = 0
    for job in claim.jobs:
        if job.agent is None:
            continue
        while (gone := forget.remove_slice(shard, job.tenant, job.agent)).memories:
            removed += gone.memories
            embedding.drop(lane, job.tenant, gone.hashes)
    held = jobs.settle(shard, claim.token, claim.numbers)
    return Done(removed=removed, fenced=not held)
