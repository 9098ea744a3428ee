"""Optimize: which agents shall have an index of their own, and how well those that there are answer.

It only looks, demotes and asks: an index is built by a job, which takes as long as it takes (tasks/optimize.py). The
indexes of a node compete for what they may take together; the canary asks those that nobody has looked at for longest.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from random import sample
from statistics import fmean, median

import structlog

from memlane.beat.duty import Slice
from memlane.contract.upkeep import Knob
from memlane.errors import MemlaneError
from memlane.storage import indexes, jobs, upkeep
from memlane.storage.cluster import Shard
from memlane.storage.indexes import Asked, Known, Outgrown, Sung, Told
from memlane.storage.jobs import Kind
from memlane.tasks import canary, indexing
from memlane.tasks import optimize as work
from memlane.tasks.indexing import Claimant, Doing, Room, Step
from memlane.tasks.lane import Lane

log = structlog.get_logger(__name__)

_MIB = 1024 * 1024

_SINGING = 0.25
"""The part of the slice in which the canary sings: comparing exactly costs what it is to be compared with."""

_COUNTING = 0.5
"""The part in which tails are counted; chance says whose turn it is first, so that all have theirs."""

_EXACT_S = 7 * 86_400.0
"""How long an agent is searched exactly for which no index was good enough."""

_LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class _Seen:
    """A shard with the agents that have an index, those that might, and how often they were asked."""

    shard: Shard
    known: Sequence[Known]
    outgrown: Sequence[Outgrown]
    asked: Mapping[int, Asked]


def optimize(lane: Lane, slice_: Slice) -> str:
    """Look at all nodes, one after the other; one that does not answer is left for next time."""
    did = Counter[str]()
    nodes = lane.cluster.by_node()
    seen: list[_Seen] = []
    counting = Slice(slice_.left_s * _COUNTING)
    for name, shards in sample(list(nodes.items()), len(nodes)):
        try:
            here = [_seen(lane, shard, counting) for shard in sample(shards, len(shards))]
            _share(lane, here, did)
            seen += here
        except MemlaneError as error:
            did["nodes skipped"] += 1
            log.warning("optimize.node_skipped", node=name, why=str(error))
    _sing(lane, seen, Slice(slice_.left_s * _SINGING), did)
    for one in seen:
        try:
            _tell(lane, one.shard)
        except MemlaneError as error:
            log.warning("optimize.not_told", shard=one.shard.number, why=str(error))
    return ", ".join(f"{what} {count}" for what, count in sorted(did.items())) or "nothing was due"


def _seen(lane: Lane, shard: Shard, counting: Slice) -> _Seen:
    """What there is in a shard; how long the tails are is counted while there is time for that, and noted."""
    model = lane.model.name
    known = indexes.known(shard, model)
    outgrown = indexes.outgrown(shard, model, lane.settings.promote_at)
    asked = indexes.asked(shard, [*(one.agent for one in known), *(one.agent for one in outgrown)])
    noted = [_noted(lane, shard, one, asked.get(one.agent, Asked()), counting) for one in known]
    return _Seen(shard, noted, outgrown, asked)


def _noted(lane: Lane, shard: Shard, one: Known, asked: Asked, counting: Slice) -> Known:
    """An agent with the length of its tail, as it is now or was at the last look."""
    if not one.upto or counting.over:
        return one
    tail = upkeep.tail(shard, one.agent, lane.table, one.upto)
    indexes.note(shard, one.agent, lane.model.name, tail, asked)
    return replace(one, tail=tail)


def _share(lane: Lane, here: Sequence[_Seen], did: Counter[str]) -> None:
    """Share out what indexes may take on a node: demote who gets nothing, ask for those that are due."""
    others = sum(indexes.taken(one.shard, lane.model.name).others_bytes for one in here)
    room = Room(lane.settings.indexes_per_shard, lane.settings.index_mb * _MIB - others)
    wanted = {(one.shard, one.agent) for one in indexing.chosen([*_claimants(lane, here)], room)}
    for seen in here:
        number = seen.shard.number
        for one in seen.known:
            if one.upto and (number, one.agent) not in wanted:
                _demote(lane, seen.shard, one.agent, did)
        due = {one.agent: one.tenant for one in seen.known if (number, one.agent) in wanted and _is_due(lane, one)}
        due |= {one.agent: one.tenant for one in seen.outgrown if (number, one.agent) in wanted}
        if without := sum((number, one.agent) not in wanted for one in seen.outgrown):
            did["left without an index"] += without
        _ask(lane, seen.shard, due, did)


def _ask(lane: Lane, shard: Shard, due: Mapping[int, str], did: Counter[str]) -> None:
    """Open jobs for agents, each with its tenant; those that are open already stay as they are."""
    for agent, tenant in due.items():
        jobs.open_optimize(shard, tenant, agent)
    if due:
        did["asked for"] += len(due)
        lane.wake(Kind.OPTIMIZE, shard.number)


def _claimants(lane: Lane, here: Sequence[_Seen]) -> Sequence[Claimant]:
    """The agents of a node that have an index and are large enough to keep it, and those that might get one."""
    least = lane.settings.promote_at * indexing.SHRUNK
    dims = lane.model.dims
    found = []
    for seen in here:
        for one in seen.known:
            if one.upto and one.memories >= least and one.exact_until is None:
                asked = seen.asked.get(one.agent, Asked()).times
                found.append(Claimant(seen.shard.number, one.agent, one.memories, asked, one.bytes, promoted=True))
        for other in seen.outgrown:
            asked = seen.asked.get(other.agent, Asked()).times
            size = indexing.index_bytes(other.memories, dims, indexing.shape(other.memories).m)
            found.append(Claimant(seen.shard.number, other.agent, other.memories, asked, size))
    return found


def _is_due(lane: Lane, one: Known) -> bool:
    """Whether the job would build an index again; what is dead in it is looked after by vacuum."""
    long_tail = (one.tail or 0) > work.TAIL_SHARE * one.memories
    gone = one.bytes == 0
    return one.memories >= lane.settings.promote_at and (gone or long_tail or _awaits_better(one))


def _awaits_better(one: Known) -> bool:
    """Whether the canary has asked for a better index that is not built yet."""
    return one.rung > 0 and indexing.better(
        indexing.shape(one.memories, one.rung), indexing.Shape(one.m, one.ef_construction)
    )


def _demote(lane: Lane, shard: Shard, agent: int, did: Counter[str]) -> None:
    """Let go of an index, unless others are being built on the node just now."""
    with upkeep.alone(shard) as mine:
        if not mine:
            did["left for next time"] += 1
            return
        work.demote(lane, shard, agent)
        did["demoted"] += 1


def _sing(lane: Lane, seen: Sequence[_Seen], slice_: Slice, did: Counter[str]) -> None:
    """Have the canary ask the indexes that it has not asked for longest, and do what its answers call for."""
    found = [(one, s.shard) for s in seen for one in indexes.known(s.shard, lane.model.name) if one.upto]
    for one, shard in sorted(found, key=lambda pair: pair[0].sung_at or _LONG_AGO):
        if slice_.over:
            return
        try:
            _sing_of(lane, shard, one, did)
        except MemlaneError as error:
            log.warning("optimize.canary_skipped", shard=shard.number, agent=one.agent, why=str(error))


def _sing_of(lane: Lane, shard: Shard, one: Known, did: Counter[str]) -> None:
    ef_search = max(lane.cluster.knobs.of(lane.settings, Knob.EF_SEARCH), one.ef_search or 0)
    answers = canary.of_agent(lane, shard, one, ef_search)
    if not answers:
        return
    recall = fmean(answer.recall for answer in answers)
    indexes.keep(shard, one.agent, lane.model.name, Sung(recall, len(answers), median(a.ms for a in answers)))
    did["asked by the canary"] += 1
    most = max(ef_search, lane.settings.tune_ef_search[1])
    doing = Doing(recall, len(answers), ef_search, indexing.highest(one.memories, one.rung))
    step = indexing.next_step(doing, lane.settings.index_recall, most)
    if step[0] is not Step.NOTHING and not _awaits_better(one):
        log.warning("index.misses", shard=shard.number, agent=one.agent, recall=recall, ef_search=ef_search)
        _follow(lane, shard, one, step, did)


def _follow(lane: Lane, shard: Shard, one: Known, step: tuple[Step, int], did: Counter[str]) -> None:
    """Take a step; the next run sees what came of it."""
    model, (what, ef_search) = lane.model.name, step
    did[what.value] += 1
    if what is Step.LOOK_FURTHER:
        indexes.look_further(shard, one, model, ef_search)
    elif what is Step.BUILD_BETTER:
        indexes.build_better(shard, one.agent, model, one.rung + 1)
        _ask(lane, shard, {one.agent: one.tenant}, did)
    else:  # the next run demotes it
        indexes.go_exact(shard, one.agent, model, _EXACT_S)


def _tell(lane: Lane, shard: Shard) -> None:
    """Say how the indexes of a shard are doing."""
    found = [one for one in indexes.known(shard, lane.model.name) if one.upto]
    recalls = [one.recall for one in found if one.recall is not None]
    low = sum(recall < lane.settings.index_recall for recall in recalls)
    told = Told(len(found), sum(one.bytes for one in found), min(recalls, default=None), low)
    indexes.tell(lane.cluster.control, shard.number, told)
