"""Forgetting: of one memory at once and whole, of an agent's memories in slices behind a mark that readers obey.

The statements of a transaction run one after the other: each has to see what a finish that was under
way has committed while the one before it waited. Jobs come first, as in a finish, so that the two
never wait for each other.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb

from memlane.contract import Event, Filters
from memlane.storage import queries
from memlane.storage.cluster import Shard
from memlane.storage.connections import Row
from memlane.storage.memories import HOLDS, filter_params

_SQL = queries.load("forget")

SLICE = 1000
"""How many memories are removed in one transaction."""


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What was removed: how many memories, and the hashes of their texts."""

    memories: int
    hashes: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Matching:
    """Memories of an agent that pass filters, of those that were accepted up to a number."""

    filters: Filters
    upto: int

    @property
    def params(self) -> dict[str, Any]:
        """As parameters."""
        return {**filter_params(self.filters), "upto": self.upto}


Step = Callable[..., list[Row]]
"""Runs one named statement of a transaction; words name places, or are parameters."""


def forget_memory(shard: Shard, tenant: str, agent: int, id_: UUID) -> Forgotten:
    """Forget one memory in one transaction; nothing happens if it is unknown or forgotten already."""
    tables = vector_tables(shard)
    with transaction(shard, _SQL, {"tenant": tenant, "agent": agent, "id": id_}) as step:
        jobs = step("take_job")
        step("lock_agent")
        identity = step("take_identity")
        if not identity:
            return Forgotten(0, ())
        number, first = identity[0]
        _, hashes = _remove_rows(step, tables, [number])
        event = Event.DROPPED if ("remember",) in jobs else Event.FORGOTTEN
        step("count", event=event.value, count=1)
        return Forgotten(1, (bytes(first), *hashes))


def remove_slice(shard: Shard, tenant: str, agent: int) -> Forgotten:
    """Remove some rows of an agent that was forgotten; nothing removed means that all are gone."""
    numbers = [row[0] for row in shard.run(_SQL["doomed"], {"agent": agent, "limit": SLICE})]
    return remove(shard, tenant, agent, numbers)


def remove_doomed(shard: Shard, tenant: str, agent: int) -> Iterator[Forgotten]:
    """Remove all rows of an agent that was forgotten, slice by slice."""
    while (gone := remove_slice(shard, tenant, agent)).memories:
        yield gone


def remove_matching(shard: Shard, tenant: str, agent: int, matching: Matching) -> Iterator[Forgotten]:
    """Remove the memories that match, slice by slice."""
    numbers = [-1]
    while numbers:
        params = {**matching.params, "tenant": tenant, "agent": agent, "after": numbers[-1], "limit": SLICE}
        numbers = [row[0] for row in shard.run(_SQL["matching"], params, holds=HOLDS)]
        yield remove(shard, tenant, agent, numbers)


def count_matching(shard: Shard, tenant: str, agent: int, matching: Matching) -> int:
    """How many memories match, stored or still to be stored."""
    params = {**matching.params, "tenant": tenant, "agent": agent, "after": -1, "limit": None}
    return int(shard.run(_SQL["count_matching"], params, matching=_SQL["matching"].text, holds=HOLDS)[0][0])


def newest(shard: Shard) -> int:
    """The number of what was accepted last."""
    return int(shard.run(_SQL["newest"])[0][0])


def open_matching(
    shard: Shard, tenant: str, agent: int, id_: UUID, payload: Mapping[str, Any], request: UUID | None = None
) -> None:
    """Open a job that forgets what matches; one that is open begins anew, but not by the same request."""
    params = {"tenant": tenant, "agent": agent, "id": id_, "payload": Jsonb(payload), "request": request}
    shard.write(_SQL["open_matching"], params)


def expired(shard: Shard) -> list[tuple[str, int, list[int]]]:
    """The next memories whose time is over: tenant, agent's number and their numbers."""
    return [(tenant, agent, numbers) for tenant, agent, numbers in shard.run(_SQL["expired"], {"limit": SLICE})]


def remove(shard: Shard, tenant: str, agent: int, numbers: Sequence[int], event: Event = Event.FORGOTTEN) -> Forgotten:
    """Remove memories of an agent by number in one transaction; they stay forgotten."""
    if not numbers:
        return Forgotten(0, ())
    tables = vector_tables(shard)
    with transaction(shard, _SQL, {"tenant": tenant, "agent": agent, "numbers": list(numbers)}) as step:
        dropped = step("remove_jobs").count(("remember",))
        step("lock_agent")
        stored, hashes = _remove_rows(step, tables, numbers)
        firsts = [bytes(hash_) for (hash_,) in step("remove_identities")]
        for counted, count in ((Event.DROPPED, dropped), (event, stored)):
            if count:
                step("count", event=counted.value, count=count)
        return Forgotten(len(numbers), (*firsts, *hashes))


def _remove_rows(step: Step, tables: Sequence[str], numbers: Sequence[int]) -> tuple[int, list[bytes]]:
    """Remove what is stored of memories: how many were, and the hashes of all that they said."""
    wanted = list(numbers)
    before = [bytes(hash_) for (hash_,) in step("remove_versions", numbers=wanted)]
    stored, hashes = step("remove_memories", numbers=wanted)[0]
    for table in tables:
        step("remove_vectors", vectors=table, numbers=wanted)
    step("remove_stats", numbers=wanted)
    return stored, [*before, *map(bytes, hashes)]


def vector_tables(shard: Shard) -> list[str]:
    """The tables of vectors in a shard: one for each model that was ever current."""
    return [name for (name,) in shard.run(_SQL["vector_tables"], {"schema": shard.schema})]


@contextmanager
def transaction(shard: Shard, statements: Mapping[str, queries.Query], params: Mapping[str, Any]) -> Iterator[Step]:
    """A function that runs named statements in one transaction, behind the fence."""
    common = {**params, "epoch": shard.epoch}
    with shard.node.connection(writes=True) as connection, connection.transaction():

        def step(name: str, *, vectors: str = "", **more: Any) -> list[Row]:
            cursor = connection.execute(shard.render(statements[name], vectors=vectors), {**common, **more})
            return cursor.fetchall() if cursor.description else []

        yield step
