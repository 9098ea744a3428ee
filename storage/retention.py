"""Retention: what is kept for a time only, and goes when that is over; in steps of which none takes long."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from memlane.storage import queries
from memlane.storage.cluster import Shard
from memlane.storage.memories import RESONANCE
from memlane.storage.nodes import Node

_SQL = queries.load("retention")
_LEDGER = queries.load("ledger")

_BUCKET = _LEDGER["bucket"].text

SHORT_LIVED = ("reports", "vacuums", "incidents", "tunings")
"""What is kept for a fixed time, in control."""

BY_DAYS = ("usage", "spending", "alerts")
"""What is kept for as long as the settings say, in control."""

AT_ONCE = 5000
"""How many rows go in one statement."""

_MEMORIES = 2000
"""How many memories are looked at in one statement."""

PAGES = 500
"""How many pages are looked at in one statement: some tens of thousands of rows of the ledger."""


@dataclass(frozen=True, slots=True)
class Faded:
    """Of some memories of an agent, up to the last: those whose use does not count any more."""

    agent: int
    tenant: str
    last: int
    numbers: Sequence[int]


@dataclass(frozen=True, slots=True)
class Questions:
    """What went of what agents were asked: how many rows, and by tenant the questions whose vectors may go too."""

    rows: int
    hashes: Mapping[str, Sequence[bytes]]


def drop_short_lived(control: Node, what: str) -> None:
    """Let go of what is older than its fixed time: one of `SHORT_LIVED`."""
    control.run(_SQL[what].render())


def drop_by_days(control: Node, what: str, days: int) -> int:
    """Let go of some of what is older than so many days: one of `BY_DAYS`; how many rows went, 0 when all are gone."""
    return int(control.run(_SQL[what].render(), {"days": days, "limit": AT_ONCE})[0][0])


def drop_queries(shard: Shard, days: int) -> Questions:
    """Let go of some recalls that were noted longer ago; the hashes are of those that are no patterns."""
    return _questions(shard.write(_SQL["queries"], {"days": days, "limit": AT_ONCE}))


def drop_patterns(shard: Shard) -> Questions:
    """Let go of some patterns that were not found again."""
    return _questions(shard.write(_SQL["patterns"], {"limit": AT_ONCE}))


def _questions(rows: Sequence[tuple[Any, ...]]) -> Questions:
    hashes = {tenant: [bytes(hash_) for hash_ in found] for tenant, _, found in rows if tenant is not None and found}
    return Questions(sum(count for _, count, _ in rows), hashes)


def pages(shard: Shard, table: str) -> int:
    """How many pages a table has."""
    return int(shard.run(_SQL["pages"], table=table)[0][0])


def drop_cached(shard: Shard, page: int, days: int) -> int:
    """Let go of the embeddings in some pages of the cache that were of no use for so many days; how many went."""
    return int(shard.write(_SQL["cache"], {**_range(page), "days": days})[0][0])


def compact_ledger(shard: Shard, page: int) -> int:
    """Put rows of some pages of the ledger together; how many were. The sums are the same at every instant."""
    return int(shard.write(_LEDGER["compact"], _range(page), bucket=_BUCKET)[0][0])


def merge_ledger(shard: Shard) -> int:
    """Put rows of the ledger together that lie far apart; how many were, 0 when none is left."""
    return int(shard.write(_LEDGER["merge"], {"limit": AT_ONCE}, bucket=_BUCKET)[0][0])


def faded(shard: Shard, after: tuple[int, int], below: float) -> list[Faded]:
    """What has faded of the memories that come next after one, by its agent and number; nothing when all were seen."""
    params = {"agent": after[0], "number": after[1], "below": below, "limit": _MEMORIES}
    return [Faded(agent, tenant, last, numbers) for agent, tenant, last, numbers in _faded(shard, params)]


def _faded(shard: Shard, params: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    return shard.run(_SQL["faded"], params, resonance=RESONANCE)


def _range(page: int) -> dict[str, str]:
    return {"first": f"({page},0)", "last": f"({page + PAGES},0)"}
