"""Update: what is stored becomes another, under the same id; what it said before is kept.

Locks are taken in the order of a finish: the embed job, the agent, the memory.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from psycopg import Rollback
from psycopg.types.json import Jsonb

from memlane.contract import Event, Version, limits
from memlane.contract.memory import single
from memlane.errors import Conflict, Unavailable
from memlane.storage import queries
from memlane.storage.cluster import Shard
from memlane.storage.connections import Row
from memlane.storage.forget import Step, transaction, vector_tables

_SQL = {**queries.load("forget"), **queries.load("update")}

_FIELDS = (
    *("number", "content", "kind", "importance", "tags", "metadata"),
    *("occurred_at", "expires_at", "supersedes", "pinned"),
)
"""What `find` reads, before the count of words."""


@dataclass(frozen=True, slots=True)
class Updated:
    """What an update came to: whether there is anything to be embedded."""

    rewritten: bool


def update(
    shard: Shard, tenant: str, agent: int, id_: UUID, given: Mapping[str, Any], text_search: str
) -> Updated | None:
    """Update a memory in one transaction; None if it is not stored, or has expired.

    Args:
        shard: where it is.
        tenant: whose it is.
        agent: the agent's number.
        id_: the memory's.
        given: the fields that become others, as in `MemoryUpdate`.
        text_search: how words are stemmed.

    Raises:
        Conflict: it would take the place of what has taken its own.
        Unavailable: somebody else updates it at this moment; nothing was done.
    """
    tables = vector_tables(shard)
    params = {"tenant": tenant, "agent": agent, "id": id_, "text_search": text_search}
    rewritten = None
    with transaction(shard, _SQL, params) as step:
        opened = "content" in given and bool(step("open_job", content=given["content"]))
        step("lock_agent")
        found = step("find")
        if not found:
            raise Rollback  # the embed job that was opened, too
        before = _as_contract(found[0])
        after = {**before, **given}
        rewritten = after["content"] != before["content"]
        if rewritten and not opened:
            raise Unavailable("the memory is being updated by somebody else")
        if after["supersedes"] != before["supersedes"] and after["supersedes"] is not None:
            _check_successor(step, after["supersedes"])
        if _said(after) != _said(before):
            _write(step, before, after, words=found[0][-1])
            if rewritten:
                _without_vector(step, tables, before["number"])
            step("count", event=Event.UPDATED.value, count=1)
    return None if rewritten is None else Updated(rewritten)


def _as_contract(row: Row) -> dict[str, Any]:
    """The row that `find` found, in the contract's types, so that the same update once more changes nothing."""
    found = dict(zip(_FIELDS, row, strict=False))
    return {**found, "tags": tuple(found["tags"]), "importance": single(found["importance"])}


def _said(memory: Mapping[str, Any]) -> dict[str, Any]:
    """A memory's fields so that true and 1 are not the same."""
    return {**memory, "metadata": json.dumps(memory["metadata"], sort_keys=True)}


def _check_successor(step: Step, supersedes: UUID) -> None:
    if step("leads_back", supersedes=supersedes):
        raise Conflict("the two would take each other's place: neither could be seen", first=supersedes)


def _write(step: Step, before: Mapping[str, Any], after: Mapping[str, Any], words: int) -> None:
    rewritten = after["content"] != before["content"]
    if rewritten:
        step("keep_version", number=before["number"])
    values = {**after, "tags": list(after["tags"]), "metadata": Jsonb(after["metadata"]), "rewritten": rewritten}
    ((now,),) = step("write", **values)
    step("recount", words=now - words, conditional=_conditional(after) - _conditional(before))


def _without_vector(step: Step, tables: list[str], number: int) -> None:
    for table in tables:
        step("remove_vectors", vectors=table, numbers=[number])
    step("wait_for_vector")


def _conditional(memory: Mapping[str, Any]) -> int:
    """Whether recall has to look at it before it shows it, or another."""
    return int(memory["expires_at"] is not None or memory["supersedes"] is not None)


def history(shard: Shard, tenant: str, agent: str, id_: UUID) -> list[Version]:
    """What a memory said before, newest first; the last hundred times."""
    params = {"tenant": tenant, "agent": agent, "id": id_, "limit": limits.HISTORY_ITEMS}
    rows = shard.run(_SQL["history"], params)
    return [Version(*row) for row in rows]
