"""Recall: answer a question from the memory of agents. Never queued: the path is find, embed, search, rank, read.

Agents may live on several shards. Each shard is searched by itself; what was found is ranked once, together, and what
is best is read where it was found.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias, TypeVar

from memlane.contract import Hit, Memory, Parts, Recalled, RecallRequest
from memlane.errors import MemlaneError
from memlane.storage import agents, memories, recall
from memlane.storage.cluster import Shard
from memlane.storage.halfvec import Vector
from memlane.storage.recall import Candidate, Search
from memlane.tasks import ranking
from memlane.tasks.lane import Lane
from memlane.tasks.ranking import Ranked

CANDIDATES = 100
"""How many of the best by meaning, and by words, of each agent are ranked: 50 to 200 made no difference on LoCoMo."""

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
        note: what whoever reads the answer has to know of where it was read.
    """

    candidates: Sequence[Candidate] = ()
    numbers: Mapping[str, int] = field(default_factory=dict)
    note: str | None = None

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
    """What a recall came to; accesses by shard."""

    recalled: Recalled
    accesses: Mapping[int, Accesses]


def place(lane: Lane, question: Question) -> dict[int, list[str]]:
    """The agents that are asked, by their shards."""
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
    """The answer where all agents are on one shard.

    Raises:
        NodeDown: their node does not answer.
    """

    def work(shard: Shard) -> tuple[Found, Sequence[Ranked], Read]:
        found = search(lane, shard, question, names)
        ranked = ranking.rank(found.candidates, question.request.limit)
        return found, ranked, read(shard, found, ranked)

    found, ranked, those = on_shard(lane, number, work)
    return Answer(recalled(question, ranked, those, notes=[found.note]), {number: found.accesses(ranked)})


def search(lane: Lane, shard: Shard, question: Question, names: Sequence[str]) -> Found:
    """What one shard finds; an agent of which nothing was ever accepted has nothing."""
    request, settings = question.request, lane.settings
    wanted = Search(request.query, question.vector, request.filters, lane.table, settings.text_search, CANDIDATES)
    known = [agents.find(shard, question.tenant, name, lane.model.name) for name in names]
    there = [agent for agent in known if agent is not None]
    candidates = [candidate for agent in there for candidate in recall.candidates(shard, agent, wanted)]
    return Found(candidates, {agent.name: agent.number for agent in there}, shard.note)


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
    refused: Sequence[Refused] = (),
    notes: Iterable[str | None] = (),
) -> Recalled:
    """The hits, best first, and what was missing, or was read elsewhere than usual."""
    keys = [(one.candidate.agent, one.candidate.number) for one in ranked]
    hits = tuple(_hit(read[key], one) for key, one in zip(keys, ranked, strict=True) if key in read)
    missing = {name for shard in refused for name in shard.names}
    degraded = (*_degraded(question, refused), *dict.fromkeys(note for note in notes if note))
    return Recalled(hits, degraded, tuple(name for name in question.request.names if name in missing))


def _degraded(question: Question, refused: Sequence[Refused]) -> Iterator[str]:
    if question.refusal:
        yield f"found by words only: {question.refusal}"
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
