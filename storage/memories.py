"""Memories: written when their job is finished, read by id, by number and page by page."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any
from uuid import UUID

import numpy as np
from psycopg.types.json import Jsonb

from memlane.contract import Filters, Memory, PageRequest, spoken
from memlane.contract.memory import single
from memlane.contract.tiers import Use, tier_of
from memlane.storage import queries
from memlane.storage.cluster import Shard
from memlane.storage.halfvec import HalfVectors, Vector, as_vector
from memlane.storage.jobs import DELAYS, LATER, Claim, Delays, Done, delay_params

_SQL = queries.load("memories")
_COLUMNS = _SQL["columns"].text
_ALIVE = _SQL["alive"].text

_RESONANCE = queries.load("resonance")

BORN, STILL = _RESONANCE["born"].text, _RESONANCE["still"].text
"""What is left of a memory's resonance, as an expression: of one that was never recalled, and of one that was."""

RESONANCE = _RESONANCE["now"].text.replace("{born}", BORN).replace("{still}", STILL)
"""What is left of it, whichever it is."""

HOLDS = queries.load("recall")["holds"].text
"""The filters as a condition."""

VISIBLE = queries.load("recall")["visible"].text.replace("{alive}", _ALIVE)
"""That a memory has neither expired nor been superseded, as a condition."""


def store(
    shard: Shard, claim: Claim, vectors: Mapping[int, Vector], table: str, text_search: str, delays: Delays
) -> Done:
    """Finish remember jobs in one transaction.

    Args:
        shard: where they are.
        claim: the claimed jobs.
        vectors: those that are at hand, by the memory's number.
        table: the current model's table.
        text_search: how words are stemmed.
        delays: when the missing vectors are tried for next, and why they are missing.
    """
    params = {**_arrays(vectors), **delay_params(delays), "token": claim.token, "text_search": text_search}
    stored, searchable, dropped, held = shard.write(_SQL["store"], params, delays=DELAYS, vectors=table)[0]
    return Done(stored=stored, searchable=searchable, dropped=dropped, fenced=not held)


def attach(shard: Shard, claim: Claim, vectors: Mapping[int, Vector], table: str, delays: Delays) -> Done:
    """Finish embed jobs in one transaction: add the vectors at hand, put the jobs without one off."""
    params = {**_arrays(vectors), **delay_params(delays), "token": claim.token}
    searchable, later, held = shard.write(_SQL["attach"], params, later=LATER, delays=DELAYS, vectors=table)[0]
    gone = len(claim.jobs) - searchable - later if held else 0
    return Done(searchable=searchable, dropped=gone, fenced=not held, refused=later > 0 and not searchable)


def _arrays(vectors: Mapping[int, Vector]) -> dict[str, Any]:
    rows = np.stack(list(vectors.values())) if vectors else np.zeros((0, 1), np.float32)
    return {"numbers": list(vectors), "embeddings": HalfVectors(rows)}


def texts(shard: Shard, claim: Claim) -> dict[int, str]:
    """The texts of memories that are stored and not forgotten, as they are embedded, by number."""
    params = {"agents": [job.agent for job in claim.jobs], "numbers": claim.numbers}
    return {number: spoken(speaker, content) for number, speaker, content in shard.run(_SQL["texts"], params)}


def by_id(shard: Shard, tenant: str, agent: str, id_: UUID, *, expired: bool = False) -> Memory | None:
    """One memory, or None if there is none that is stored and not forgotten; an expired one only if asked for."""
    params = {"tenant": tenant, "agent": agent, "id": id_}
    rows = shard.run(_SQL["by_id"], params, columns=_COLUMNS, alive="true" if expired else _ALIVE)
    return _memory(agent, rows[0]) if rows else None


def use(shard: Shard, tenant: str, agent: str, id_: UUID) -> Use | None:
    """How a memory was used, or None if there is none that is stored and not forgotten."""
    rows = shard.run(_SQL["use"], {"tenant": tenant, "agent": agent, "id": id_}, resonance=RESONANCE, alive=_ALIVE)
    if not rows:
        return None
    ((count, last_accessed_at, resonance, last, now),) = rows
    return Use(count, single(resonance), tier_of(last, now), last_accessed_at)


def by_numbers(shard: Shard, agent: str, agent_number: int, numbers: Sequence[int]) -> dict[int, Memory]:
    """Memories of an agent by number; forgotten ones are left out."""
    rows = shard.run(_SQL["by_numbers"], {"agent": agent_number, "numbers": list(numbers)}, columns=_COLUMNS)
    return {row[0]: _memory(agent, row) for row in rows}


def page(shard: Shard, tenant: str, wanted: PageRequest) -> tuple[list[tuple[int, Memory]], str | None]:
    """A page of an agent's memories with their numbers, and the cursor of the page after it, if there is one."""
    first, beyond, order = (-1, ">", "ASC") if wanted.oldest_first else (2**63 - 1, "<", "DESC")
    params = {
        "tenant": tenant,
        "agent": wanted.agent,
        "last": first if wanted.cursor is None else int(wanted.cursor),
        "limit": wanted.limit + 1,
        **filter_params(wanted),
    }
    rows = shard.run(_SQL["page"], params, columns=_COLUMNS, holds=HOLDS, visible=VISIBLE, beyond=beyond, order=order)
    found = [(row[0], _memory(wanted.agent, row)) for row in rows[: wanted.limit]]
    return found, str(found[-1][0]) if len(rows) > wanted.limit else None


def vectors(shard: Shard, tenant: str, agent: str, numbers: Sequence[int], table: str) -> dict[int, Vector]:
    """The vectors of an agent's memories by number; those that have none are left out."""
    rows = shard.run(_SQL["vectors"], {"tenant": tenant, "agent": agent, "numbers": list(numbers)}, vectors=table)
    return {number: as_vector(embedding) for number, embedding in rows}


def filter_params(filters: Filters) -> dict[str, Any]:
    """The filters as parameters of the queries that use them; None where nothing is asked."""
    return {
        "kinds": list(filters.kinds) or None,
        "tags": list(filters.tags) or None,
        "since": filters.since,
        "until": filters.until,
        "thread": filters.thread,
        "metadata": Jsonb(filters.metadata) if filters.metadata else None,
        "min_importance": filters.min_importance,
        "pinned": filters.pinned,
        "include_superseded": filters.include_superseded,
    }


def count_accesses(shard: Shard, accesses: Mapping[tuple[int, int], int]) -> None:
    """Add to how often memories were recalled, by agent's number and memory's number; it lifts their resonance."""
    params = {
        "agents": [agent for agent, _ in accesses],
        "numbers": [number for _, number in accesses],
        "counts": list(accesses.values()),
    }
    shard.write(_SQL["count_accesses"], params, born=BORN, still=STILL)


@lru_cache(maxsize=4096)
def _importance(kept: float) -> float:
    """As it was given; there are few that differ."""
    return single(kept)


def _memory(agent: str, row: Sequence[Any]) -> Memory:
    _, id_, content, kind, importance, tags, *rest = row
    return Memory(id_, agent, content, kind, _importance(importance), tuple(tags), *rest)
