"""Recall: answer a question from the memory of agents. Never queued: the path is find, embed, search, rank, read.

Agents may live on several shards. Each shard is searched by itself; what was found is ranked once, together, and what
is best is read where it was found.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias, TypeVar

from memlane.contract import Hit, Memory, Parts, Recalled, RecallRequest, Tier
from memlane.contract.upkeep import Knob
from memlane.errors import MemlaneError
from memlane.storage import agents, memories, recall
from memlane.storage.agents import Agent
from memlane.storage.cluster import Shard
from memlane.storage.halfvec import Vector
from memlane.storage.recall import Candidate, Reach, Search
from memlane.tasks import ranking
from memlane.tasks.lane import Lane
from memlane.tasks.ranking import Ranked

CANDIDATES = 100
"""How many of the best by meaning, and by words, of each agent are ranked: 50 to 200 made no difference on LoCoMo."""

TOGETHER = 20_000
"""How many memories of several small agents are read by one statement, about."""

ALL_TIERS = frozenset(Tier)

T = TypeVar("T")

Read: TypeAlias = Mapping[tuple[str, int], Memory]
"""Memories by their agent's name and their number."""

Accesses: TypeAlias = Mapping[tuple[int, int], int]
"""Agent's number and memory's number of each hit in a shard, to 1, for counting."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked, with its vector, or why there is none."""

    tenant: str
    request: RecallRequest
    vector: Vector | None = None
    refusal: MemlaneError | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """What one shard found.

    Attributes:
        candidates: the memories of its agents that match best.
        numbers: these agents' numbers there, by name.
        marks: what of each agent was forgotten before this was found, by its number.
        note: what whoever reads the answer has to know of where it was read.
        tiers: what was read.
        left_out: how many of a tenant's agents were not searched there, since there are too many memories.
    """

    candidates: Sequence[Candidate] = ()
    numbers: Mapping[str, int] = field(default_factory=dict)
    marks: Mapping[int, int] = field(default_factory=dict)
    note: str | None = None
    tiers: frozenset[Tier] = frozenset()
    left_out: int = 0

    def accesses(self, ranked: Sequence[Ranked]) -> Accesses:
        """Which of its memories are among the best."""
        best = (r.candidate for r in ranked if r.candidate.agent in self.numbers)
        return {(self.numbers[c.agent], c.number): 1 for c in best}


@dataclass(frozen=True, slots=True)
class Refused:
    """A shard that could not be asked, for these agents, and why."""

    number: int
    names: Sequence[str]
    why: MemlaneError


@dataclass(frozen=True, slots=True)
class Answer:
    """What a recall came to; by shard the accesses, and what was found there of the agents that were named."""

    recalled: Recalled
    accesses: Mapping[int, Accesses]
    found: Mapping[int, Found] = field(default_factory=dict)


def place(lane: Lane, question: Question) -> dict[int, list[str]]:
    """The agents that are asked by name, by their shards; all shards where all agents are."""
    if question.request.all_agents:
        return {number: [] for number in range(lane.cluster.shard_count)}
    shards: dict[int, list[str]] = {}
    for name in question.request.names:
        shards.setdefault(lane.cluster.shard_of(question.tenant, name), []).append(name)
    return shards


def on_shard(lane: Lane, number: int, work: Callable[[Shard], T]) -> T:
    """Ask one shard: whatever a recall reads, it reads through here.

    Raises:
        NodeDown: the shard's node does not answer.
    """
    return lane.cluster.reading(number, work)


def alone(lane: Lane, question: Question, number: int, names: Sequence[str]) -> Answer:
    """The answer where all agents that are asked are on one shard.

    Raises:
        NodeDown: their node does not answer.
    """

    def work(shard: Shard) -> tuple[Found, Sequence[Ranked], Read]:
        found = search(lane, shard, question, names)
        ranked = ranking.rank(found.candidates, question.request.limit)
        return found, ranked, read(shard, found, ranked)

    found, ranked, those = on_shard(lane, number, work)
    answer = recalled(question, ranked, those, {number: found})
    return Answer(answer, {number: found.accesses(ranked)}, {number: found} if names else {})


def search(lane: Lane, shard: Shard, question: Question, names: Sequence[str]) -> Found:
    """What one shard finds; an agent of which nothing was ever accepted has nothing."""
    request, settings = question.request, lane.settings
    ef_search = lane.cluster.knobs.of(settings, Knob.EF_SEARCH)
    how = (lane.table, settings.text_search, CANDIDATES)
    wanted = Search(request.query, question.vector, request.filters, *how, ef_search=ef_search)
    there, left_out = _asked(lane, shard, question, names)
    small = [agent for agent in there if len(there) > 1 and _small(lane, agent)]
    others = [agent for agent in there if len(there) == 1 or not _small(lane, agent)]
    found = [_of_many(lane, shard, group, question, wanted) for group in _groups(small)]
    found += [_of_one(lane, shard, agent, question, wanted) for agent in others]
    candidates = [candidate for those, _ in found for candidate in those]
    if request.all_agents:
        with_some = {candidate.agent for candidate in candidates}
        there = [agent for agent in there if agent.name in with_some]
    numbers = {agent.name: agent.number for agent in there}
    marks = {agent.number: agent.forgotten_before for agent in there}
    tiers = frozenset[Tier]().union(*(tiers for _, tiers in found))
    return Found(candidates, numbers, marks, shard.note, tiers, left_out)


def _asked(lane: Lane, shard: Shard, question: Question, names: Sequence[str]) -> tuple[list[Agent], int]:
    """The agents that are asked on a shard, and how many are left out there."""
    if question.request.all_agents:
        return agents.newest(shard, question.tenant, lane.model.name, lane.settings.recall_all_memories)
    return agents.find_all(shard, question.tenant, names, lane.model.name), 0


def _small(lane: Lane, agent: Agent) -> bool:
    """Whether an agent is read whole, together with others."""
    return not agent.indexed_upto and agent.memories < lane.settings.tiers_from


def _groups(small: Sequence[Agent]) -> Iterator[Sequence[Agent]]:
    """Small agents, so many at once that what is read of them stays in memory."""
    group: list[Agent] = []
    memories = 0
    for agent in small:
        if group and memories + agent.memories > TOGETHER:
            yield group
            group, memories = [], 0
        group.append(agent)
        memories += agent.memories
    if group:
        yield group


def _of_many(
    lane: Lane, shard: Shard, agents: Sequence[Agent], question: Question, wanted: Search
) -> tuple[list[Candidate], frozenset[Tier]]:
    """What is found of several small agents, and which tiers were read."""
    cold = {Tier.COLD} if question.request.include_old is None else set()
    tiers = question.request.tiers | cold
    return recall.candidates_of_many(shard, agents, _within(lane, shard, wanted, tiers)), tiers


def _of_one(
    lane: Lane, shard: Shard, agent: Agent, question: Question, wanted: Search
) -> tuple[list[Candidate], frozenset[Tier]]:
    """What is found of one agent, and which tiers were read: the cold one only if it was asked for, or is needed."""
    tiers, maybe = question.request.tiers, question.request.include_old is None
    if maybe and (agent.memories < lane.settings.tiers_from or _whole(lane, shard, agent, wanted)):
        tiers, maybe = tiers | {Tier.COLD}, False
    found = recall.candidates(shard, agent, _within(lane, shard, wanted, tiers))
    if maybe and _good(found, lane.settings.good_similarity) < question.request.limit:
        tiers = tiers | {Tier.COLD}
        found = recall.candidates(shard, agent, _within(lane, shard, wanted, tiers))
    return found, tiers


def _whole(lane: Lane, shard: Shard, agent: Agent, wanted: Search) -> bool:
    """Whether a large agent is read whole: nothing is gained by less."""
    return wanted.vector is None or agent.indexed_upto > 0 or not lane.ages.of(shard).warm_after


def _within(lane: Lane, shard: Shard, wanted: Search, tiers: frozenset[Tier]) -> Search:
    """A search in some tiers only."""
    return replace(wanted, reach=None if tiers == ALL_TIERS else Reach(tiers, lane.ages.of(shard)))


def _good(found: Sequence[Candidate], least: float) -> int:
    """How many are similar enough to the question."""
    return sum(one.similarity is not None and one.similarity >= least for one in found)


def read(shard: Shard, found: Found, ranked: Sequence[Ranked]) -> Read:
    """The memories of one shard that are among the best; what was forgotten meanwhile is left out."""
    wanted: dict[str, list[int]] = {}
    for one in ranked:
        if one.candidate.agent in found.numbers:
            wanted.setdefault(one.candidate.agent, []).append(one.candidate.number)
    return {
        (name, number): memory
        for name, numbers in wanted.items()
        for number, memory in memories.by_numbers(shard, name, found.numbers[name], numbers).items()
    }


def recalled(
    question: Question,
    ranked: Sequence[Ranked],
    read: Read,
    found: Mapping[int, Found],
    refused: Sequence[Refused] = (),
) -> Recalled:
    """The hits, best first, and what was missing, or was read elsewhere than usual."""
    keys = [(one.candidate.agent, one.candidate.number) for one in ranked]
    hits = tuple(_hit(read[key], one) for key, one in zip(keys, ranked, strict=True) if key in read)
    missing = {name for shard in refused for name in shard.names}
    degraded = (*_degraded(question, found, refused), *dict.fromkeys(one.note for one in found.values() if one.note))
    read_of = frozenset[Tier]().union(*(one.tiers for one in found.values()))
    tiers = tuple(tier for tier in Tier if tier in read_of)
    return Recalled(hits, degraded, tuple(name for name in question.request.names if name in missing), tiers)


def _degraded(question: Question, found: Mapping[int, Found], refused: Sequence[Refused]) -> Iterator[str]:
    if question.refusal:
        yield f"found by words only: {question.refusal}"
    if left_out := sum(one.left_out for one in found.values()):
        yield f"there are too many memories to ask all agents: the {left_out} that came first were left out"
    shards: dict[str, list[int]] = {}
    for shard in refused:
        shards.setdefault(str(shard.why), []).append(shard.number)
    for why, numbers in shards.items():
        yield f"not all agents could be asked: {why} (shard {', '.join(map(str, sorted(numbers)))})"


def _hit(memory: Memory, ranked: Ranked) -> Hit:
    candidate = ranked.candidate
    # In half precision a vector's length is not quite 1.
    similarity = None if candidate.similarity is None else max(-1.0, min(1.0, candidate.similarity))
    return Hit(memory, ranked.score, Parts(similarity, candidate.words, ranked.context))
