"""The storm: load through the SDK, faults at random points, and a count that owes nothing to the code under test.

`make chaos` plays as many rounds as one likes; these are a few with seeds whose faults differ.
"""

import signal
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
import redis

from memlane import Client
from tests.faults.count import at_work, count, left_to_do
from tests.faults.notes import Notes
from tests.faults.provider import Mood
from tests.faults.round import play
from tests.faults.strike import FAULTS, Fault, Scene, choose, named
from tests.faults.world import LEASE_S, World, world
from tests.processes import RabbitMQ
from tests.support import eventually

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def with_redis(server_folder: Path) -> Iterator[World]:
    """A world with a Redis of its own, for all rounds."""
    with world(server_folder / "storm-redis") as made:
        yield made


@pytest.fixture(scope="module")
def with_rabbitmq(server_folder: Path, rabbitmq: RabbitMQ) -> Iterator[World]:
    """A world with a virtual host as its broker, for all rounds."""
    with world(server_folder / "storm-rabbitmq", rabbitmq.vhost("storm")) as made:
        yield made


def faults(*names: str) -> list[Fault]:
    return [named(name) for name in names]


@pytest.mark.parametrize(
    ("seed", "struck"),
    [
        (1, faults("worker killed", "redis wiped", "node stopped")),
        (2, faults("worker stopped past its lease", "gateway killed", "link to node-1", "provider: 500")),
        (3, faults("poison", "both beats killed", "pool child killed")),
        (4, faults("control node stopped", "broker silent", "provider: half the vectors", "links reset")),
    ],
)
def test_nothing_is_lost_doubled_or_resurrected(with_redis: World, seed: int, struck: list[Fault]) -> None:
    played, _ = play(with_redis, seed, struck)
    assert played.counted.wrong == []
    assert played.memories > 50
    assert len(played.faults) == len(struck)


@pytest.mark.rabbitmq
@pytest.mark.parametrize(
    ("seed", "struck"),
    [
        (5, faults("all workers killed", "queues purged", "link to node-2")),
        (6, faults("broker silent", "node killed", "worker stopped past its lease")),
    ],
)
def test_the_same_over_rabbitmq(with_rabbitmq: World, seed: int, struck: list[Fault]) -> None:
    played, _ = play(with_rabbitmq, seed, struck)
    assert played.counted.wrong == []
    assert played.memories > 50


def hand_over(made: World, name: str, memories: int = 60) -> Notes:
    """Memories of an agent, each with a receipt."""
    notes = Notes()
    keys = [f"key {number}" for number in range(memories)]
    with Client(made.url, made.key) as client:
        client.remember_many([{"agent": name, "content": f"{name} has {key}", "key": key} for key in keys])
    for key in keys:
        notes.about(name, made.key_id(name, key), f"{name} has {key}", key).answered()
    return notes


def test_a_killed_workers_jobs_are_done_within_the_lease_and_a_little(with_redis: World) -> None:
    """The provider holds the holders up until they are killed, so that their leases have to run out."""
    with with_redis.provider.being(Mood.NEVER):
        notes = hand_over(with_redis, "killed")
        eventually(lambda: at_work(with_redis.servers)["leased"] > 0)
        for name in ("ingest-1", "ingest-2"):
            with_redis.processes[name].send_all(signal.SIGKILL)
    eventually(lambda: left_to_do(with_redis.servers) == 0, 4 * (LEASE_S + 5))
    assert count(with_redis.servers, notes, "killed").wrong == []


def test_a_wiped_redis_is_recovered_from_within_seconds(with_redis: World) -> None:
    """The wake-ups lie in a queue that nobody reads, and are lost with it; the sweep alone finds what is to be done."""
    readers = [with_redis.processes[name] for name in ("ingest-1", "ingest-2")]
    for reader in readers:
        reader.hold(signal.SIGKILL)
    notes = hand_over(with_redis, "wiped")
    with redis.Redis.from_url(with_redis.redis_uri(0)) as client:
        eventually(lambda: client.llen("remember") != 0)
    named("redis wiped").strike(Scene(with_redis, notes, "wiped", Random(1)))
    for reader in readers:
        reader.let_go()
    eventually(lambda: left_to_do(with_redis.servers) == 0, 40)
    assert count(with_redis.servers, notes, "wiped").wrong == []


def test_a_seed_chooses_the_same_faults_again() -> None:
    for seed in range(50):
        first, second = (choose(Random(seed), with_redis=True) for _ in range(2))
        assert first == second
    every = {fault.name for seed in range(200) for fault in choose(Random(seed), with_redis=True)}
    assert every == {fault.name for fault in FAULTS}
