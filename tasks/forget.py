"""Forget: one memory at once and whole; an agent's by a mark that all obey, or by filters, and then their rows."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from uuid import UUID, uuid5

from memlane.contract import Event, Filters
from memlane.storage import agents, asked, forget, ids, jobs, patterns
from memlane.storage.cluster import Shard
from memlane.storage.forget import Forgotten, Matching
from memlane.storage.jobs import Claim, Delay, Done, Job, Kind
from memlane.storage.retention import Faded
from memlane.storage.wording import cache_key
from memlane.tasks import embedding
from memlane.tasks.lane import Lane

_MATCHING = UUID("4c1b6a52-0a5d-5f0a-8c57-6d656d6c616e")
"""The name space of ids of jobs that forget by filters: the same filters make the same job."""

_FOR_OTHERS = Delay(10.0, "it has a filter that this version does not know")
"""How long a job of a newer version waits for a worker of that version."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What forgetting by filters came to: how many memories match, and the job that forgets them, if one does."""

    matched: int
    job: UUID | None


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
        lane.caches.forgotten(shard.number, [number])
        return True

    return lane.cluster.on(lane.cluster.shard_of(tenant, agent), work)


def forget_agent(lane: Lane, tenant: str, agent: str, request: UUID | None = None) -> bool:
    """Forget everything accepted for an agent up to now; its rows are removed by a drain. False if unknown.

    Args:
        lane: this process's.
        tenant: whose it is.
        agent: whose memories.
        request: names who asks: asked once more, late, it does not mean what was accepted since.

    Raises:
        Unavailable: it is not known whether it was forgotten; asking again does no harm.
    """
    number = lane.cluster.shard_of(tenant, agent)

    known = lane.cluster.on(number, lambda shard: agents.forget(shard, tenant, agent, request))
    if known is not None:
        lane.caches.forgotten(number, [known])
        lane.wake(Kind.FORGET, number)
    return known is not None


def forget_matching(
    lane: Lane, tenant: str, agent: str, filters: Filters, *, dry_run: bool, request: UUID | None = None
) -> Asked | None:
    """Forget what an agent was told up to now and passes filters, by a drain; None if the agent is unknown.

    Args:
        lane: this process's.
        tenant: whose it is.
        agent: whose memories.
        filters: which of them; superseded and expired ones count as well.
        dry_run: only count.
        request: names who asks: asked once more, late, it does not mean what was accepted since.

    Raises:
        Unavailable: it is not known whether they will be forgotten; asking again does no harm.
    """
    number = lane.cluster.shard_of(tenant, agent)

    def work(shard: Shard) -> Asked | None:
        known = lane.numbers.of(shard, tenant, [agent], register=False).get(agent)
        if known is None:
            return None
        matching = Matching(filters, forget.newest(shard))
        matched = forget.count_matching(shard, tenant, known, matching)
        if dry_run or not matched:
            return Asked(matched, None)
        asked = filters.model_dump(mode="json", exclude_defaults=True, exclude={"include_superseded"})
        id_ = uuid5(_MATCHING, json.dumps(asked, sort_keys=True))
        forget.open_matching(shard, tenant, known, id_, {"filters": asked, "upto": matching.upto}, request)
        return Asked(matched, id_)

    asked = lane.cluster.on(number, work)
    if asked is not None and asked.job is not None:
        lane.wake(Kind.FORGET, number)
    return asked


def remove_forgotten(lane: Lane, shard: Shard, claim: Claim) -> Done:
    """Finish forget jobs: remove the rows in slices. What asks for more than we know is left to those who do."""
    removed = 0
    done: list[int] = []
    for job in claim.jobs:
        if _newer(job):
            continue
        done.append(job.number)
        if job.agent is None:
            continue
        for gone in _slices(shard, job, job.agent):
            removed += gone.memories
            embedding.drop(lane, job.tenant, gone.hashes)
        lane.caches.forgotten(shard.number, [job.agent])
        if "filters" not in job.payload:
            _remove_questions(lane, shard, job.tenant, job.agent)
    held = jobs.settle(shard, claim.token, done, _FOR_OTHERS)
    return Done(removed=removed, fenced=not held, refused=len(done) < len(claim.jobs))


def _remove_questions(lane: Lane, shard: Shard, tenant: str, agent: int) -> None:
    """Remove what an agent was asked, its patterns, and the vectors of these questions.

    Some of it may have been asked since the agent was forgotten: that is no loss, it is only a log.
    """
    gone = patterns.remove(shard, agent)
    drop_questions(lane, tenant, gone)
    while gone := asked.remove(shard, agent):
        drop_questions(lane, tenant, gone)


def drop_questions(lane: Lane, tenant: str, hashes: Sequence[bytes], unused_s: float | None = None) -> None:
    """Let go of the vectors of a tenant's questions.

    Args:
        lane: this process's.
        tenant: whose agents were asked.
        hashes: under which the questions were logged.
        unused_s: only of those that no agent was asked for so many seconds; None: of all.
    """
    embedding.drop(lane, tenant, [cache_key(hash_) for hash_ in dict.fromkeys(hashes)], unused_s)


def _newer(job: Job) -> bool:
    """Whether a job has a filter that a newer version has opened it with: without it, too much would be forgotten."""
    return bool(set(job.payload.get("filters", {})) - set(Filters.model_fields))


def _slices(shard: Shard, job: Job, agent: int) -> Iterator[Forgotten]:
    """Remove what a job is about: all that was forgotten with the agent, or what matches."""
    if "filters" not in job.payload:
        return forget.remove_doomed(shard, job.tenant, agent)
    matching = Matching(Filters.model_validate(job.payload["filters"]), int(job.payload["upto"]))
    return forget.remove_matching(shard, job.tenant, agent, matching)


def remove_faded(lane: Lane, shard: Shard, faded: Faded) -> int:
    """Forget memories whose use does not count any more; how many. The ledger counts them as expired."""
    gone = forget.remove(shard, faded.tenant, faded.agent, faded.numbers, Event.EXPIRED)
    embedding.drop(lane, faded.tenant, gone.hashes)
    lane.caches.forgotten(shard.number, [faded.agent])
    return gone.memories


def remove_expired(lane: Lane, shard: Shard) -> int:
    """Forget the memories of a shard whose time is over; how many."""
    removed = 0
    while found := forget.expired(shard):
        for tenant, agent, numbers in found:
            gone = forget.remove(shard, tenant, agent, numbers, Event.EXPIRED)
            embedding.drop(lane, tenant, gone.hashes)
            lane.caches.forgotten(shard.number, [agent])
            removed += gone.memories
    return removed
