"""Optimize: statistics, and an index of its own for each agent that outgrew exact search.

Up to about 20,000 vectors an exact scan of one agent's rows is fast and misses nothing. Beyond that
the agent gets a partial HNSW index over its vectors up to a number; newer ones are compared exactly
beside it, and the index is built again when they have become many.
"""

from uuid import UUID

import structlog

from memlane.storage import agents, jobs, upkeep
from memlane.storage.cluster import Shard
from memlane.storage.forget import vector_tables
from memlane.storage.jobs import Claim, Delay, Done, Kind
from memlane.storage.upkeep import Promotion
from memlane.tasks.lane import Lane

log = structlog.get_logger(__name__)

TAIL_SHARE = 0.2
"""An index is built again when so many vectors, as a share of those in it, are newer than it."""


def request(lane: Lane, tenant: str, agent: str) -> UUID | None:
    """Ask for an agent to be optimized; the job's id, or None if the agent is unknown."""
    number = lane.cluster.shard_of(tenant, agent)

    def work(shard: Shard) -> UUID | None:
        known = lane.numbers.of(shard, tenant, [agent], register=False).get(agent)
        return None if known is None else jobs.open_optimize(shard, tenant, known)

    id_ = lane.cluster.on(number, work)
    if id_ is not None:
        lane.wake(Kind.OPTIMIZE, number)
    return id_


def request_shard(lane: Lane, number: int) -> UUID:
    """Ask for a whole shard to be optimized; the job's id."""
    id_ = lane.cluster.on(number, lambda shard: jobs.open_optimize(shard, jobs.NOBODY, None))
    lane.wake(Kind.OPTIMIZE, number)
    return id_


def optimize(lane: Lane, shard: Shard, claim: Claim) -> Done:
    """Finish optimize jobs: analyze the shard, promote the agents that were asked for.

    Every step may be repeated; what was built before is found and left.
    """
    wanted = [job.agent for job in claim.jobs]
    with upkeep.alone(shard) as mine:
        if not mine:
            held = jobs.settle(shard, claim.token, [], Delay(5.0, "the shard is being optimized already"))
            return Done(fenced=not held, refused=True)
        promoted = optimize_shard(lane, shard, None if None in wanted else {n for n in wanted if n is not None})
    held = jobs.settle(shard, claim.token, claim.numbers)
    return Done(promoted=promoted, fenced=not held)


def optimize_shard(lane: Lane, shard: Shard, wanted: set[int] | None) -> int:
    """Analyze a shard, drop what a broken build left, promote large agents (those wanted, or all); how many."""
    upkeep.analyze(shard, vector_tables(shard))
    for name in upkeep.drop_broken_indexes(shard):
        log.info("index.broken_dropped", shard=shard.number, index=name)
    large = agents.large(shard, lane.settings.promote_at)
    return sum(promote(lane, shard, number) for number in large if wanted is None or number in wanted)


def promote(lane: Lane, shard: Shard, agent: int) -> bool:
    """Give an agent an index, or a new one when that has a long tail or is worn; whether one was built."""
    count, last = upkeep.vectors_of(shard, agent, lane.table)
    before = upkeep.promotion(shard, agent, lane.model.name)
    if count < lane.settings.promote_at or (before and not _is_worn(lane, shard, agent, before, count)):
        return False
    name = upkeep.build_index(shard, agent, lane.table, last, before.index_name if before else None)
    upkeep.promote(shard, agent, lane.model.name, Promotion(last, name, count))
    log.info("agent.promoted", shard=shard.number, agent=agent, vectors=count, upto=last)
    if before:
        upkeep.drop_index(shard, before.index_name)
    return True


def _is_worn(lane: Lane, shard: Shard, agent: int, before: Promotion, count: int) -> bool:
    """Whether too much is newer than an index, or too much of what it was built of is gone."""
    tail = upkeep.tail(shard, agent, lane.table, before.upto)
    built = before.vectors or 0
    gone = built - (count - tail)
    return tail > TAIL_SHARE * count or gone > lane.settings.reindex_share * built
