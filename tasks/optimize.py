"""Optimize: statistics, and an index of its own for each agent that outgrew exact search.

Up to `MEMLANE_PROMOTE_AT` vectors an exact scan of one agent's rows is fast and misses nothing. Beyond that the agent
gets a partial HNSW index over its vectors up to a number; newer ones are compared exactly beside it, and the index is
built again when they have become many. tasks/indexing.py decides, beat/optimize.py looks who is due.

Building takes as long as it takes: it is a job, whose lease is renewed, in the upkeep worker, and no part of a duty's
slice. A job may break off anywhere and be repeated: what was built and did not serve yet is dropped, and built again.
"""

from dataclasses import replace
from time import monotonic
from uuid import UUID

import structlog

from memlane.storage import agents, indexes, jobs, upkeep
from memlane.storage.cluster import Shard
from memlane.storage.forget import vector_tables
from memlane.storage.indexes import Care
from memlane.storage.jobs import Claim, Delay, Done, Kind
from memlane.storage.upkeep import Build, Promotion
from memlane.tasks import indexing
from memlane.tasks.lane import Lane

log = structlog.get_logger(__name__)

TAIL_SHARE = 0.2
"""An index is built again when so many vectors, as a share of all, are newer than it."""

_ENOUGH_S = 600.0
"""After so long a claim begins no further index: what is left of it goes back, before the worker's limits end it."""

_MIB = 1024 * 1024


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
    with upkeep.alone(shard) as mine:
        if not mine:
            held = jobs.settle(shard, claim.token, [], Delay(5.0, "indexes are being built on its node already"))
            return Done(fenced=not held, refused=True)
        tidy(shard)
        until, promoted, done = monotonic() + _ENOUGH_S, 0, []
        for job in claim.jobs:
            if monotonic() > until:
                break
            promoted += promote_all(lane, shard) if job.agent is None else promote(lane, shard, job.agent)
            done.append(job.number)
    held = jobs.settle(shard, claim.token, done)
    return Done(promoted=promoted, fenced=not held)


def optimize_shard(lane: Lane, shard: Shard, wanted: set[int] | None) -> int:
    """Analyze a shard, drop what a broken build left, promote large agents (those wanted, or all); how many."""
    tidy(shard)
    return promote_all(lane, shard, wanted)


def tidy(shard: Shard) -> None:
    """Analyze a shard, and drop what a broken build left; call it while you are `upkeep.alone`."""
    upkeep.analyze(shard, vector_tables(shard))
    for name in upkeep.drop_left_indexes(shard):
        log.info("index.left_dropped", shard=shard.number, index=name)


def promote_all(lane: Lane, shard: Shard, wanted: set[int] | None = None) -> int:
    """Promote the large agents of a shard, or those of them that are wanted; how many indexes were built."""
    large = agents.large(shard, lane.settings.promote_at)
    return sum(promote(lane, shard, number) for number in large if wanted is None or number in wanted)


def promote(lane: Lane, shard: Shard, agent: int) -> bool:
    """Give an agent an index, or a new one when that is due, if there is room; whether one was built.

    The new one is built beside the old one, which serves until the new one does; so recall never lacks one.
    """
    count, last = upkeep.vectors_of(shard, agent, lane.table)
    before = upkeep.promotion(shard, agent, lane.model.name)
    care = indexes.care(shard, agent, lane.model.name)
    if count < lane.settings.promote_at or care.exact:
        return False
    if before and not _is_due(lane, shard, agent, before, count, care):
        return False
    if not before and not _has_room(lane, shard, count):
        log.warning("agent.not_promoted", shard=shard.number, agent=agent, vectors=count, why="no room for its index")
        return False
    _build(lane, shard, agent, Promotion(last, "", count, *_shape(count, care)), before)
    return True


def _build(lane: Lane, shard: Shard, agent: int, wanted: Promotion, before: Promotion | None) -> None:
    begun = monotonic()
    build = Build(agent, wanted.upto, wanted.m, wanted.ef_construction, lane.settings.index_build_mb)
    name = upkeep.build_index(shard, lane.table, build, before.index_name if before else None)
    upkeep.promote(shard, agent, lane.model.name, replace(wanted, index_name=name))
    took_s = round(monotonic() - begun, 1)
    log.info("agent.promoted", shard=shard.number, agent=agent, vectors=wanted.vectors, upto=wanted.upto, took_s=took_s)
    if before:
        upkeep.drop_index(shard, before.index_name)


def demote(lane: Lane, shard: Shard, agent: int) -> None:
    """Search an agent exactly from now on, and let go of its index; call it while you are `upkeep.alone`."""
    name = indexes.demote(shard, agent, lane.model.name)
    if name is not None:
        upkeep.drop_index(shard, name)
        log.info("agent.demoted", shard=shard.number, agent=agent)


def _shape(count: int, care: Care) -> tuple[int, int]:
    wanted = indexing.shape(count, care.rung)
    return wanted.m, wanted.ef_construction


def _is_due(lane: Lane, shard: Shard, agent: int, before: Promotion, count: int, care: Care) -> bool:
    """Whether an index is gone, too much is newer, too much of what it was built of is gone, or it has to be better."""
    if not before.there:
        return True
    tail = upkeep.tail(shard, agent, lane.table, before.upto)
    built = before.vectors or 0
    gone = built - (count - tail)
    worn = tail > TAIL_SHARE * count or gone > lane.settings.reindex_share * built
    shape = indexing.Shape(before.m, before.ef_construction)
    return worn or (care.rung > 0 and indexing.better(indexing.shape(count, care.rung), shape))


def _has_room(lane: Lane, shard: Shard, count: int) -> bool:
    """Whether one more index fits into what a shard and its node may have."""
    model = lane.model
    if indexes.taken(shard, model.name).indexes >= lane.settings.indexes_per_shard:
        return False
    here = [indexes.taken(one, model.name) for one in lane.cluster.by_node().get(shard.node.name, ())]
    more = indexing.index_bytes(count, model.dims, indexing.shape(count).m)
    return sum(one.bytes + one.others_bytes for one in here) + more <= lane.settings.index_mb * _MIB
