"""The query log: which questions were put to agents, when, and how they were answered."""

from collections.abc import Sequence
from dataclasses import dataclass

from memlane.storage import queries
from memlane.storage.cluster import Shard

_SQL = queries.load("asked")

SLICE = 10_000
"""How many logged questions are removed in one statement."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A question that was put to an agent, and how it was answered.

    Attributes:
        agent: the agent's number.
        mark: its `forgotten_before` when it was answered: what was forgotten since is not logged.
        hash: SHA-256 of the normalised text.
        query: the normalised text; None: it is not to be kept.
        spelt: the text as it was asked; None where that is the normalised one, or is not to be kept.
        age_s: how long ago it was asked, in seconds.
        ms: from the question to the answer.
        hits: how many of the agent's memories were found.
        cached: whether its vector was known.
    """

    agent: int
    mark: int
    hash: bytes
    query: str | None
    spelt: str | None
    age_s: float
    ms: float
    hits: int
    cached: bool


def log(shard: Shard, rows: Sequence[Asked]) -> int:
    """Log questions in one statement, but for agents that were forgotten meanwhile; how many were logged.

    Args:
        shard: where the agents live.
        rows: in the order in which they were asked.
    """
    params = {
        "agents": [row.agent for row in rows],
        "marks": [row.mark for row in rows],
        "hashes": [row.hash for row in rows],
        "queries": [row.query for row in rows],
        "spelt": [row.spelt for row in rows],
        "ages": [row.age_s for row in rows],
        "ms": [row.ms for row in rows],
        "hits": [row.hits for row in rows],
        "cached": [row.cached for row in rows],
    }
    return int(shard.write(_SQL["log"], params)[0][0])


def since(shard: Shard, at: float, after: int) -> tuple[float, list[int]]:
    """The time now, and the numbers of agents beyond `after` that were asked since; times in seconds of the epoch."""
    now, agents = shard.run(_SQL["since"], {"at": at, "after": after})[0]
    return now, agents


def lately(shard: Shard, within_s: float, most: int) -> list[int]:
    """The numbers of agents that were asked lately, the last one first."""
    return [agent for (agent,) in shard.run(_SQL["lately"], {"within_s": within_s, "most": most})]


def remove(shard: Shard, agent: int) -> list[bytes]:
    """Remove some questions of an agent; the hashes of those that are gone, none when all are."""
    return [bytes(hash_) for (hash_,) in shard.write(_SQL["remove"], {"agent": agent, "limit": SLICE})]
