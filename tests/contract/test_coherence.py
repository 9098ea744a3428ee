"""No cache serves what was forgotten, or is older than what was done before: any course of things, at two gateways."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import count
from time import sleep
from uuid import UUID

import pytest
import redis
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from memlane import Client
from memlane.errors import ProviderRefused
from memlane.storage import tenants
from memlane.storage.jobs import Kind
from memlane.tasks import forget
from memlane.tasks.embedders import Embedding, model_of
from memlane.tasks.embedders.hash import HashEmbedder
from memlane.tasks.lane import Lane
from tests.contract.conftest import serving
from tests.support import asks, drain_all, sql

pytestmark = [
    pytest.mark.filterwarnings("ignore::hypothesis.errors.HypothesisDeprecationWarning"),
    pytest.mark.timeout(600),
]

_SOON_S = 0.15

_NUMBERS = count()


class Moody(HashEmbedder):
    """Refuses when told to."""

    refuses = False

    def embed(self, texts: Sequence[str]) -> Embedding:
        if self.refuses:
            raise ProviderRefused("it is not in the mood", 0.001)
        return super().embed(texts)


@dataclass
class Told:
    """A memory as it should be read."""

    content: str
    vector: bool
    supersedes: UUID | None = None
    tagged: bool = False
    expires_at: datetime | None = None

    @property
    def lives(self) -> bool:
        return self.expires_at is None or self.expires_at > datetime.now(UTC)


@dataclass
class World:
    """Two gateways, somebody who does the work when told to, and what should be read of an agent."""

    clients: Sequence[Client]
    lane: Lane
    embedder: Moody
    agent: str = ""
    told: dict[UUID, Told] = field(default_factory=dict)

    def visible(self) -> dict[str, bool]:
        """The contents that are seen, and whether each has its vector."""
        taken = {told.supersedes for told in self.told.values() if told.lives}
        return {told.content: told.vector for id_, told in self.told.items() if told.lives and id_ not in taken}

    def holds(self) -> None:
        """Both gateways say what is so, at first and once more."""
        for client in (*self.clients, *self.clients):
            found = client.recall(self.agent, "which item?", limit=100)
            assert {hit.memory.content: hit.parts.vector is not None for hit in found} == self.visible()
            assert {memory.content for memory in client.memories(self.agent)} == self.visible().keys()

    def gone(self, ids: set[UUID]) -> None:
        """These were forgotten: what took their place takes the place of what they had taken it of."""
        removed = {id_: self.told.pop(id_) for id_ in ids}
        for told in self.told.values():
            while told.supersedes in removed:
                told.supersedes = removed[told.supersedes].supersedes

    def remember(self, client: Client, *, supersedes: UUID | None = None) -> None:
        content = f"item {next(_NUMBERS)}"
        receipt = client.remember(self.agent, content, supersedes=supersedes)
        drain_all(self.lane, Kind.REMEMBER)
        self.told[receipt.id] = Told(content, not self.embedder.refuses, supersedes)

    def embed(self) -> None:
        """What has no vector gets one."""
        for shard in self.lane.cluster.shards():
            with sql(self.lane.settings, shard.node.name) as connection:
                connection.execute(f"UPDATE {shard.schema}.jobs SET not_before = now()".encode())
        drain_all(self.lane, Kind.EMBED)
        for told in self.told.values():
            told.vector = True


Step = Callable[[World, Client, UUID], None]


def _remember(world: World, client: Client, _id: UUID) -> None:
    world.remember(client)


def _remember_blindly(world: World, client: Client, _id: UUID) -> None:
    world.embedder.refuses = True
    world.remember(client)
    world.embedder.refuses = False


def _supersede(world: World, client: Client, id_: UUID) -> None:
    world.remember(client, supersedes=id_)


def _embed(world: World, _client: Client, _id: UUID) -> None:
    world.embed()


def _rewrite(world: World, client: Client, id_: UUID) -> None:
    content = f"item {next(_NUMBERS)}"
    client.update(world.agent, id_, content=content)
    world.told[id_] = replace(world.told[id_], content=content, vector=False)


def _tag(world: World, client: Client, id_: UUID) -> None:
    client.update(world.agent, id_, tags=["tagged"])
    world.told[id_].tagged = True


def _expire(world: World, client: Client, id_: UUID) -> None:
    world.told[id_].expires_at = soon = datetime.now(UTC) + timedelta(seconds=_SOON_S)
    client.update(world.agent, id_, expires_at=soon)
    for each in world.clients:
        each.recall(world.agent, "which item?", limit=100)
        list(each.memories(world.agent))
    sleep(_SOON_S)


def _remove_expired(world: World, _client: Client, _id: UUID) -> None:
    for shard in world.lane.cluster.shards():
        forget.remove_expired(world.lane, shard)
    world.gone({id_ for id_, told in world.told.items() if not told.lives})


def _forget(world: World, client: Client, id_: UUID) -> None:
    client.forget(world.agent, id_)
    world.gone({id_})


def _forget_tagged(world: World, client: Client, _id: UUID) -> None:
    client.forget_matching(world.agent, tags=["tagged"])
    drain_all(world.lane, Kind.FORGET)
    world.gone({id_ for id_, told in world.told.items() if told.tagged})


def _forget_all(world: World, client: Client, _id: UUID) -> None:
    client.forget_agent(world.agent)
    world.told.clear()


def _remove_forgotten(world: World, _client: Client, _id: UUID) -> None:
    drain_all(world.lane, Kind.FORGET)


def _wipe(world: World, _client: Client, _id: UUID) -> None:
    assert world.lane.settings.shared_cache_url is not None
    with redis.Redis.from_url(world.lane.settings.shared_cache_url) as caches:
        caches.flushdb()


STEPS: dict[str, Step] = {
    step.__name__.strip("_"): step
    for step in (
        *(_remember, _remember_blindly, _supersede, _embed, _rewrite, _tag, _expire, _remove_expired, _forget),
        *(_forget_tagged, _forget_all, _remove_forgotten, _wipe),
    )
}

NEW = {"remember", "remember_blindly", "wipe", "forget_tagged", "embed", "remove_expired", "remove_forgotten"}
"""What can be done where nothing is remembered."""


@pytest.fixture(scope="module")
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    """One for all courses; each has an agent of its own."""
    settings_ = request.getfixturevalue("lasting_settings")
    lane = Lane(settings_, "test")
    lane.open()
    embedder = Moody(model_of(settings_))
    asks(lane, embedder)
    tenants.create_tenant(lane.cluster.control, "acme")
    key = tenants.create_key(lane.cluster.control, "acme")
    with ExitStack() as stack:
        urls = [stack.enter_context(serving(settings_)) for _ in range(2)]
        yield World([stack.enter_context(Client(url, key)) for url in urls], lane, embedder)
    lane.close()


COURSES = st.lists(st.tuples(st.sampled_from(sorted(STEPS)), st.integers(0, 5), st.integers(0, 1)), max_size=8)


@settings(
    max_examples=10,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
)
@given(COURSES)
@example([(name, 0, 0) for name in ("rewrite", "embed", "remember_blindly", "embed", "supersede", "forget", "wipe")])
@example([(name, 1, 1) for name in ("tag", "remember", "forget_tagged", "expire", "remove_expired", "remember")])
@example([(name, 0, 1) for name in ("supersede", "expire", "remove_expired", "forget_all", "remove_forgotten")])
def test_any_course_of_things(world: World, course: list[tuple[str, int, int]]) -> None:
    """While something is done, both gateways are asked; once it is done, neither says what was before."""
    world.agent, world.told = f"agent-{next(_NUMBERS)}", {}
    for _ in range(2):
        world.remember(world.clients[0])
    world.holds()
    with ThreadPoolExecutor(2) as pool:
        for name, which, gateway in course:
            living = [id_ for id_, told in world.told.items() if told.lives]
            if not living and name not in NEW:
                continue
            asked = [pool.submit(client.recall, world.agent, "which item?", limit=100) for client in world.clients]
            STEPS[name](world, world.clients[gateway], living[which % len(living)] if living else UUID(int=0))
            for one in asked:
                one.result()
            world.holds()
