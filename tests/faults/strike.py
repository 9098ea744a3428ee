"""The faults: each strikes a world, lasts a moment, and leaves the world to recover by itself."""

import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from random import Random
from time import sleep
from typing import Any

import psutil
import redis
from kombu.connection import Connection
from kombu.exceptions import OperationalError

from memlane import Client
from memlane.config.celery import QueueName
from memlane.errors import Unavailable
from tests.faults.notes import Notes
from tests.faults.provider import BAD, Mood
from tests.faults.world import LEASE_S, World
from tests.poison import POISON
from tests.proxy import Proxy, Way


@dataclass(frozen=True)
class Scene:
    """What a fault may touch.

    Attributes:
        world: it strikes this.
        notes: of the load; poison is noted there as well.
        name: begins the names of the round's agents.
        rng: decides whom it hits and for how long.
    """

    world: World
    notes: Notes
    name: str
    rng: Random

    def moment(self) -> None:
        """For how long something is wrong: shorter than the processes wait for it, or, one time in five, longer."""
        sleep(self.rng.uniform(4, 7) if self.rng.random() < 0.2 else self.rng.uniform(0.5, 3.5))


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong.

    Attributes:
        name: in reports.
        strike: does it, and returns when nothing is wrong any more but what has become of it.
        redis: whether it takes a Redis as the broker.
    """

    name: str
    strike: Callable[[Scene], None]
    redis: bool = False


def _killed(*names: str) -> Callable[[Scene], None]:
    """Some processes, one of them or all in a row, are killed as by the kernel's OOM killer."""

    def strike(scene: Scene) -> None:
        for name in names:
            scene.world.processes[name].send(signal.SIGKILL)

    return strike


def _one_of(*names: str) -> Callable[[Scene], None]:
    return lambda scene: _killed(scene.rng.choice(names))(scene)


def _child_killed(scene: Scene) -> None:
    children = scene.world.processes[scene.rng.choice(_INGEST)].children()
    if children:
        with suppress(psutil.NoSuchProcess):
            scene.rng.choice(children).kill()


def _stopped(scene: Scene) -> None:
    """A worker sleeps longer than its leases last, and goes on as if nothing had been."""
    worker = scene.world.processes[scene.rng.choice(_INGEST)]
    worker.send_all(signal.SIGSTOP)
    sleep(LEASE_S * scene.rng.uniform(1.3, 2.2))
    worker.send_all(signal.SIGCONT)


def _gateway_stopped(scene: Scene) -> None:
    """The gateway sleeps until its callers ask again, and then has each call of theirs several times."""
    gateway = scene.world.processes["gateway"]
    gateway.send_all(signal.SIGSTOP)
    sleep(scene.rng.uniform(3, 8))
    gateway.send_all(signal.SIGCONT)


def _down(name: str, how: signal.Signals) -> Callable[[Scene], None]:
    """A server is gone for a moment."""

    def strike(scene: Scene) -> None:
        server = scene.world.processes[name]
        server.hold(how)
        scene.moment()
        server.let_go()

    return strike


def _wiped(scene: Scene) -> None:
    """The broker is killed, loses all that it had, and comes back."""
    assert scene.world.redis is not None
    server = scene.world.processes["redis"]
    server.hold(signal.SIGKILL)
    shutil.rmtree(scene.world.redis.folder / "appendonlydir", ignore_errors=True)
    (scene.world.redis.folder / "appendonly.aof").unlink(missing_ok=True)
    server.let_go()


def _flushed(scene: Scene) -> None:
    with redis.Redis.from_url(scene.world.redis_uri(0), socket_timeout=2) as client, suppress(redis.RedisError):
        client.flushall()


_QUEUES = (QueueName.MEMORY, QueueName.REMEMBER, QueueName.EMBED, QueueName.MAINTENANCE, QueueName.SWEEP)
"""Those that somebody consumes, and so has made."""


def _purged(scene: Scene) -> None:
    """All that lies in the broker's queues is gone."""
    broker: Any = Connection
    with broker(scene.world.broker_url, connect_timeout=2) as connection, suppress(OperationalError, OSError):
        channel = connection.default_channel
        for queue in _QUEUES:
            channel.queue_purge(queue.value)


@contextmanager
def _harmed(link: Proxy, rng: Random) -> Iterator[None]:
    """A link that is cut, stalled in one direction or both, or swallows everything."""
    how: Callable[[], None] = rng.choice(
        (
            link.cut,
            link.stall,
            lambda: link.stall(Way.TO_SERVER),
            lambda: link.stall(Way.TO_CLIENT),
            link.black_hole,
            lambda: link.black_hole(accepting=False),
        )
    )
    how()
    try:
        yield
    finally:
        link.mend()


def _link(what: str) -> Callable[[Scene], None]:
    """The link to a server fails, for the gateway or for the workers."""

    def strike(scene: Scene) -> None:
        who = scene.rng.choice(("gateway", "workers"))
        with _harmed(scene.world.links[f"{who} > {what}"], scene.rng):
            scene.moment()

    return strike


def _resets(scene: Scene) -> None:
    """All links are reset again and again."""
    for _ in range(scene.rng.randint(2, 6)):
        scene.rng.choice(sorted(scene.world.links.items()))[1].reset()
        sleep(scene.rng.uniform(0.05, 0.4))


def _silent_broker(scene: Scene) -> None:
    """The broker takes connections and answers nobody, while receipts go on being given."""
    links = [scene.world.links[f"{who} > broker"] for who in ("gateway", "workers")]
    for link in links:
        link.black_hole()
    scene.moment()
    for link in links:
        link.mend()


def _mood(mood: Mood) -> Callable[[Scene], None]:
    def strike(scene: Scene) -> None:
        with scene.world.provider.being(mood):
            scene.moment()

    return strike


def _poison(scene: Scene) -> None:
    """Memories that kill who works on them, among others."""
    agent = f"{scene.name}-poison"
    with Client(scene.world.url, scene.world.key, timeout=4) as client:
        for number in range(scene.rng.randint(1, 2)):
            key = f"poison {number}"
            content = f"{POISON}, number {number}"
            note = scene.notes.about(agent, scene.world.key_id(agent, key), content, key)
            note.deadly = True
            with suppress(Unavailable):
                client.remember(agent, content, key=key)
                note.answered()


_INGEST = ("ingest-1", "ingest-2")

FAULTS = (
    Fault("worker killed", _one_of(*_INGEST)),
    Fault("pool child killed", _child_killed),
    Fault("all workers killed", _killed(*_INGEST, "maintenance", "sweep")),
    Fault("gateway killed", _killed("gateway")),
    Fault("gateway stopped", _gateway_stopped),
    Fault("both beats killed", _killed("beat-1", "beat-2")),
    Fault("sweep worker killed", _killed("sweep")),
    Fault("maintenance worker killed", _killed("maintenance")),
    Fault("worker stopped past its lease", _stopped),
    Fault("redis killed", _down("redis", signal.SIGKILL), redis=True),
    Fault("redis wiped", _wiped, redis=True),
    Fault("redis flushed", _flushed, redis=True),
    Fault("queues purged", _purged),
    Fault("broker silent", _silent_broker),
    Fault("control node stopped", _down("node-1", signal.SIGQUIT)),
    Fault("node stopped", _down("node-2", signal.SIGQUIT)),
    Fault("node killed", _down("node-2", signal.SIGKILL)),
    Fault("link to node-1", _link("node-1")),
    Fault("link to node-2", _link("node-2")),
    Fault("link to broker", _link("broker")),
    Fault("link to provider", _link("provider")),
    Fault("links reset", _resets),
    *(Fault(f"provider: {mood.value}", _mood(mood)) for mood in BAD),
    Fault("poison", _poison),
)
"""All of them."""


def choose(rng: Random, *, with_redis: bool) -> list[Fault]:
    """The faults of a round: two to four kinds."""
    possible = [fault for fault in FAULTS if with_redis or not fault.redis]
    return rng.sample(possible, rng.randint(2, 4))


def named(name: str) -> Fault:
    """A fault by its name."""
    return next(fault for fault in FAULTS if fault.name == name)
