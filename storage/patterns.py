"""Patterns: the questions that an agent is asked again and again, found in the log of its last ones."""

from collections.abc import Sequence
from dataclasses import dataclass

from memlane.contract.patterns import Pattern
from memlane.storage import queries
from memlane.storage.agents import FORGET
from memlane.storage.cluster import Shard

_SQL = queries.load("patterns")


@dataclass(frozen=True, slots=True)
class Learnt:
    """How many agents were looked at, and how many patterns they have."""

    agents: int
    patterns: int


@dataclass(frozen=True, slots=True)
class Wanted:
    """A pattern as it is warmed: whose it is, and how it is asked most."""

    agent: int
    tenant: str
    name: str
    hash: bytes
    text: str


def learn(shard: Shard, agents: Sequence[int], window: int, least: int) -> Learnt:
    """Put the patterns of agents in the place of those they had, in one statement.

    Args:
        shard: where they live.
        agents: their numbers; one that is being forgotten is left out.
        window: how many of an agent's last questions count.
        least: a question that was asked more often than this among them is a pattern.
    """
    params = {"agents": list(agents), "window": window, "least": least, "forget": FORGET}
    return Learnt(*shard.write(_SQL["learn"], params)[0])


def of(shard: Shard, tenant: str, agent: str) -> list[Pattern] | None:
    """An agent's patterns, the most frequent first; None if it is unknown; none of one that is being forgotten."""
    rows = shard.run(_SQL["of"], {"tenant": tenant, "agent": agent, "forget": FORGET})
    found = [(bytes(hash_).hex(), query, *rest) for hash_, query, *rest in rows if hash_ is not None]
    return [Pattern(*row) for row in found] if rows else None


def page(shard: Shard, after: tuple[int, bytes], limit: int) -> list[Wanted]:
    """The next patterns whose text is kept, by agent and hash; none of agents that are being forgotten."""
    agent, hash_ = after
    rows = shard.run(_SQL["page"], {"agent": agent, "hash": hash_, "limit": limit, "forget": FORGET})
    return [Wanted(number, tenant, name, bytes(known), text) for number, tenant, name, known, text in rows]


def remove(shard: Shard, agent: int) -> list[bytes]:
    """Remove the patterns of an agent that was forgotten; their hashes."""
    return [bytes(hash_) for (hash_,) in shard.write(_SQL["remove"], {"agent": agent})]
