"""Pages of lists that go through all shards, one after the other; one that does not answer is named, and left out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from memlane.errors import Unavailable
from memlane.gateway.state import Gateway
from memlane.gateway.threads import LOOK_S
from memlane.storage.cluster import Shard
from memlane.storage.places import Place

T = TypeVar("T")

Read = Callable[[Shard, Place, int], list[tuple[Place, T]]]
"""Reads some rows of a shard after a place, each with its own."""


@dataclass(frozen=True, slots=True)
class Rows(Generic[T]):
    """The rows of a page, where the next goes on, and the shards that did not answer."""

    rows: tuple[T, ...]
    next: str | None
    missing: tuple[int, ...]


async def page_of(gateway: Gateway, shards: Sequence[int], after: Place, limit: int, read: Read[T]) -> Rows[T]:
    """A page of rows after a place.

    Args:
        gateway: this process's.
        shards: which are looked through, in order.
        after: where the page before it ended, or before the first row of all.
        limit: how many rows at most.
        read: asks one shard.
    """
    found: list[tuple[Place, T]] = []
    missing: list[int] = []
    for number in shards:
        if number < after.shard or len(found) > limit:
            continue
        try:
            found += await _on(gateway, number, after.onward(number), limit + 1 - len(found), read)
        except Unavailable:
            missing.append(number)
    more = found[limit - 1][0].cursor if len(found) > limit else None
    return Rows(tuple(row for _, row in found[:limit]), more, tuple(missing))


async def _on(gateway: Gateway, number: int, place: Place, limit: int, read: Read[T]) -> list[tuple[Place, T]]:
    on = gateway.lane.cluster.on
    return await gateway.threads.on_shard(number, lambda: on(number, lambda shard: read(shard, place, limit)), LOOK_S)
