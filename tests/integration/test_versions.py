"""Versions of agents: whatever changes what can be read of one renews its own, and no other's."""

from collections.abc import Callable
from dataclasses import replace
from uuid import UUID

import pytest

from memlane.contract import Filters, MemoryUpdate
from memlane.contract.requests import EmbeddingsRequest
from memlane.storage import versions
from memlane.storage.cluster import Shard
from memlane.storage.jobs import Kind
from memlane.storage.versions import Version
from memlane.tasks import batch_embed, forget
from memlane.tasks.caches import levels
from memlane.tasks.caches.levels import Caches, Kept, Wanted
from memlane.tasks.lane import Lane
from memlane.tasks.update import update_memory
from tests.support import drain_all, item, remembered, sql

Change = Callable[[Lane, UUID], object]


def version(lane: Lane, agent: str = "ada") -> Version:
    number = lane.cluster.shard_of("acme", agent)
    found = lane.cluster.on(number, lambda shard: versions.of(shard, "acme", agent))
    assert found is not None
    return found


def _sql(lane: Lane, statement: str) -> None:
    shard = lane.cluster.shard(lane.cluster.shard_of("acme", "ada"))
    with sql(lane.settings, shard.node.name) as connection:
        connection.execute(statement.format(shard=shard.schema, vectors=lane.table).encode())


def _removed(lane: Lane, remove: Callable[[Lane, Shard], int]) -> None:
    assert sum(remove(lane, shard) for shard in lane.cluster.shards()) == 1


def _embed_again(lane: Lane, _id: UUID) -> None:
    """As after a change of the model."""
    _sql(lane, "DELETE FROM {shard}.{vectors}")
    asked = EmbeddingsRequest(agent="ada")
    for number in batch_embed.place(lane, "acme", asked):
        batch_embed.on_shard(lane, "acme", asked, number, [])
    drain_all(lane, Kind.EMBED)


def _forget_matching(lane: Lane, _id: UUID) -> None:
    forget.forget_matching(lane, "acme", "ada", Filters(tags=("x",)), dry_run=False)
    drain_all(lane, Kind.FORGET)


def _expire(lane: Lane, _id: UUID) -> None:
    _sql(lane, "UPDATE {shard}.memories SET expires_at = now()")
    _removed(lane, forget.remove_expired)


CHANGES: dict[str, Change] = {
    "remember": lambda lane, _: remembered(lane, item("more tea")),
    "attach": _embed_again,
    "update": lambda lane, id_: update_memory(lane, "acme", "ada", id_, MemoryUpdate(importance=0.9)),
    "forget": lambda lane, id_: forget.forget_memory(lane, "acme", "ada", id_),
    "forget matching": _forget_matching,
    "forget all": lambda lane, _: forget.forget_agent(lane, "acme", "ada"),
    "expire": _expire,
}


@pytest.mark.parametrize("change", CHANGES)
def test_every_change_renews_the_version(lane: Lane, change: str) -> None:
    (receipt, _) = remembered(lane, item("tea", tags=["x"]), item("coffee", agent="bob"))
    before, other = version(lane), version(lane, "bob")
    assert version(lane).version == before.version, "reading changes nothing"
    CHANGES[change](lane, receipt.id)
    assert version(lane).version != before.version
    assert version(lane, "bob").version == other.version


def test_clearing_renews_versions_and_epochs(lane: Lane) -> None:
    remembered(lane, item("tea"), item("coffee", agent="bob"))
    before, other = version(lane), version(lane, "bob")
    lane.cluster.on(before.shard, lambda shard: versions.renew(shard, "acme", "ada"))
    assert (version(lane).version == before.version, version(lane, "bob").version == other.version) == (False, True)
    versions.renew_all(lane.cluster, before.shard)
    assert version(lane).epoch != before.epoch


def test_an_answer_is_under_its_version_and_not_given_after_its_time(lane: Lane) -> None:
    remembered(lane, item("tea"))
    now = version(lane)
    caches = Caches(lane.settings, lane.measures)
    wanted = Wanted(levels.Kind.RECALLS, now, b"asked")
    caches.keep(wanted, Kept(b"{}", (1,), now.now_s, now.now_s + 1))
    assert caches.here(wanted) is not None
    for other in (
        Wanted(levels.Kind.LISTS, now, b"asked"),
        Wanted(levels.Kind.RECALLS, now, b"otherwise"),
        *(Wanted(levels.Kind.RECALLS, changed, b"asked") for changed in _others(now)),
    ):
        assert caches.here(other) is None
    caches.close()


def _others(now: Version) -> list[Version]:
    """The same agent at another time, changed, or cleared; another agent."""
    return [
        replace(now, now_s=now.now_s + 1),
        replace(now, version=UUID(int=1)),
        replace(now, epoch=UUID(int=1)),
        replace(now, number=now.number + 1),
        replace(now, shard=now.shard + 1),
    ]
