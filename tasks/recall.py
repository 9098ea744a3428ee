"""Recall: answer a question from an agent's memory. Never queued: the path is find, embed, search, rank, read."""

from collections.abc import Mapping
from dataclasses import dataclass

from memlane.contract import Hit, Memory, Parts, Recalled, RecallRequest
from memlane.errors import MemlaneError
from memlane.storage import agents, memories, recall
from memlane.storage.cluster import Shard
from memlane.storage.halfvec import Vector
from memlane.storage.recall import Search
from memlane.tasks import ranking
from memlane.tasks.lane import Lane
from memlane.tasks.ranking import Ranked

CANDIDATES = 100
"""How many of the best by meaning, and by words, are ranked: 50 to 200 made no difference on LoCoMo."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a recall came to.

    Attributes:
        recalled: the hits, and what was missing.
        accesses: agent's number and memory's number of each hit, to 1, for counting.
    """

    recalled: Recalled
    accesses: Mapping[tuple[int, int], int]


def recall_memories(
    lane: Lane, tenant: str, request: RecallRequest, vector: Vector | None, refusal: MemlaneError | None
) -> Answer:
    """The best hits by a vector that was made already; without one by words only, and why.

    Raises:
        NodeDown: the agent's node does not answer.
    """
    number = lane.cluster.shard_of(tenant, request.agent)
    hits, accesses = lane.cluster.on(number, lambda shard: search(lane, shard, tenant, request, vector))
    degraded = (f"found by words only: {refusal}",) if refusal else ()
    return Answer(Recalled(hits, degraded), accesses)


def search(
    lane: Lane, shard: Shard, tenant: str, request: RecallRequest, vector: Vector | None
) -> tuple[tuple[Hit, ...], dict[tuple[int, int], int]]:
    """The hits in one shard; an agent of which nothing was ever accepted has none."""
    agent = agents.find(shard, tenant, request.agent, lane.model.name)
    if agent is None:
        return (), {}
    wanted = Search(request.query, vector, request.filters, lane.table, lane.settings.text_search, CANDIDATES)
    ranked = ranking.rank(recall.candidates(shard, agent, wanted), request.limit)
    if not ranked:
        return (), {}
    found = memories.by_numbers(shard, request.agent, agent.number, [r.candidate.number for r in ranked])
    hits = tuple(_hit(found[r.candidate.number], r) for r in ranked if r.candidate.number in found)
    return hits, {(agent.number, r.candidate.number): 1 for r in ranked}


def _hit(memory: Memory, ranked: Ranked) -> Hit:
    candidate = ranked.candidate
    # In half precision a vector's length is not quite 1.
    similarity = None if candidate.similarity is None else max(-1.0, min(1.0, candidate.similarity))
    return Hit(memory, ranked.score, Parts(similarity, candidate.words, ranked.context))
