"""Forgetting: of one memory at once and whole, of an agent's memories in slices behind a mark that readers obey.

The statements of one memory run one after the other: each has to see what a finish that was under
way has committed while the one before it waited. Jobs come first, as in a finish, so that the two
never wait for each other.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from memlane.contract import Event
from memlane.storage import queries
from memlane.storage.cluster import Shard
from memlane.storage.nodes import Row

_SQL = queries.load("forget")

SLICE = 1000
"""How many memories of a forgotten agent are removed in one transaction."""


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What was removed: how many memories, and the hashes of their texts."""

    memories: int
    hashes: tuple[bytes, ...]


def forget_memory(shard: Shard, tenant: str, agent: int, id_: UUID) -> Forgotten:
    """Forget one memory in one transaction; nothing happens if it is unknown or forgotten already."""
    tables = vector_tables(shard)
    with _transaction(shard, tenant, {"agent": agent, "id": id_}) as step:
        jobs = step("take_job")
        identity = step("take_identity")
        if not identity:
            return Forgotten(0, ())
        step("take_memory")
        for table in tables:
            step("take_vector", vectors=table)
        step("take_stats")
        event = Event.DROPPED if ("remember",) in jobs else Event.FORGOTTEN
        step("count", event=event.value, count=1)
        return Forgotten(1, (bytes(identity[0][1]),))


def remove_slice(shard: Shard, tenant: str, agent: int) -> Forgotten:
    """Remove some rows of an agent that was forgotten; nothing removed means that all are gone."""
    numbers = [row[0] for row in shard.run(_SQL["doomed"], {"agent": agent, "limit": SLICE})]
    if not numbers:
        return Forgotten(0, ())
    tables = vector_tables(shard)
    with _transaction(shard, tenant, {"agent": agent, "numbers": numbers}) as step:
        dropped = step("remove_jobs").count(("remember",))
        step("lock_agent")
        stored = step("remove_memories")[0][0]
        for table in tables:
            step("remove_vectors", vectors=table)
        step("remove_stats")
        hashes = tuple(bytes(hash_) for (hash_,) in step("remove_identities"))
        for event, count in ((Event.DROPPED, dropped), (Event.FORGOTTEN, stored)):
            if count:
                step("count", event=event.value, count=count)
        return Forgotten(len(numbers), hashes)


def vector_tables(shard: Shard) -> list[str]:
    """The tables of vectors in a shard: one for each model that was ever current."""
    return [name for (name,) in shard.run(_SQL["vector_tables"], {"schema": shard.schema})]


@contextmanager
def _transaction(shard: Shard, tenant: str, params: Mapping[str, Any]) -> Iterator[Callable[..., list[Row]]]:
    """A function that runs one named statement of the transaction; words name places, or are parameters."""
    common = {**params, "tenant": tenant, "epoch": shard.epoch}
    with shard.node.connection() as connection, connection.transaction():

        def step(name: str, *, vectors: str = "", **more: Any) -> list[Row]:
            cursor = connection.execute(shard.render(_SQL[name], vectors=vectors), {**common, **more})
            return cursor.fetchall() if cursor.description else []

        yield step
