"""Update: a memory that is stored becomes another under the same id; new content gets its vector from a drain."""

from uuid import UUID

from memlane.contract import Memory, MemoryUpdate, State
from memlane.errors import Conflict, Unavailable
from memlane.storage import ids, memories, update
from memlane.storage.cluster import Shard
from memlane.storage.jobs import Kind
from memlane.tasks.lane import Lane


def update_memory(lane: Lane, tenant: str, agent: str, id_: UUID, wanted: MemoryUpdate) -> Memory | None:
    """Update a memory; as it is then, or None if there is none.

    Raises:
        Conflict: it is parked, or would take the place of what has taken its own.
        Unavailable: it was accepted but is not stored yet, or its shard does not answer; sent again, the same
            update is made once.
    """
    number = lane.cluster.shard_of(tenant, agent)

    def work(shard: Shard) -> Memory | None:
        known = lane.numbers.of(shard, tenant, [agent], register=False).get(agent)
        if known is None:
            return None
        done = update.update(shard, tenant, known, id_, wanted.given, lane.settings.text_search)
        if done is None:
            state = ids.states(shard, [(known, id_)]).get((known, id_))
            _explain(id_, state[0] if state else None)
            return None
        lane.caches.forgotten(shard.number, [known])
        if done.rewritten:
            lane.wake(Kind.EMBED, number)
        return memories.by_id(shard, tenant, agent, id_, expired=True)  # it may have been told to expire now

    return lane.cluster.on(number, work)


def _explain(id_: UUID, state: State | None) -> None:
    """Say why a memory that was accepted cannot be updated."""
    if state is State.ACCEPTED:
        raise Unavailable(f"memory {id_} is not stored yet")
    if state is State.PARKED:
        raise Conflict(f"memory {id_} is parked: it was never stored", first=id_)
