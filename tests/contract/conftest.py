"""The two clients that have to behave alike: over HTTP against a real gateway, and in memory."""

import asyncio
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread

import httpx
import pytest
import uvicorn

from memlane import Client
from memlane.client.front import Front
from memlane.config.settings import Settings
from memlane.gateway.app import create_app
from memlane.gateway.protocol import BoundedProtocol
from memlane.storage.jobs import Kind
from memlane.storage.roles import GATEWAY, WORKER
from memlane.tasks.lane import Lane
from memlane.testing import InMemoryClient
from memlane.workers import drains
from memlane.workers.wakeups import DRAIN_OF
from tests.support import Recorder, as_role, eventually, process_of


@contextmanager
def serving(settings: Settings) -> Iterator[str]:
    """A gateway on a port of its own, in a thread of this process, with the gateway's role and its rights."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    app = create_app(as_role(settings, GATEWAY))
    server = uvicorn.Server(uvicorn.Config(app, http=BoundedProtocol, log_config=None, lifespan="on", loop="asyncio"))
    thread = Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])), daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    eventually(lambda: server.started)
    try:
        yield url
    finally:
        server.should_exit = True
        thread.join(15)
        listener.close()


@contextmanager
def working(lane: Lane, recorder: Recorder) -> Iterator[None]:
    """A worker without Celery: whoever is woken is drained, in a thread. Only upkeep goes by the owner's rights."""
    stop = Event()
    limited = Lane(as_role(lane.settings, WORKER), "test", recorder)
    limited.open()

    def work() -> None:
        while not stop.is_set():
            for kind, shard in recorder.wait(0.05) or [
                (kind, s.number) for kind in DRAIN_OF for s in lane.cluster.shards()
            ]:
                drains.drain(process_of(lane if kind is Kind.OPTIMIZE else limited), DRAIN_OF[kind], shard)

    thread = Thread(target=work, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(15)
        limited.close()


@pytest.fixture
def gateway(settings: Settings) -> Iterator[str]:
    """The URL of a gateway on the fresh cluster."""
    with serving(settings) as url:
        yield url


@pytest.fixture
def worker(lane: Lane, recorder: Recorder) -> Iterator[None]:
    """Somebody who does the work."""
    with working(lane, recorder):
        yield


@pytest.fixture
def http(gateway: str, tenant_key: str) -> Iterator[httpx.Client]:
    """Plain HTTP with the tenant's key, for what the SDK would never send."""
    with httpx.Client(base_url=gateway, headers={"Authorization": f"Bearer {tenant_key}"}, timeout=20) as client:
        yield client


@pytest.fixture(params=["http", "memory"])
def client(request: pytest.FixtureRequest) -> Iterator[Front]:
    """One of the two clients."""
    if request.param == "memory":
        yield InMemoryClient()
        return
    url, key = request.getfixturevalue("gateway"), request.getfixturevalue("tenant_key")
    request.getfixturevalue("worker")
    with Client(url, key) as made:
        yield made


@pytest.fixture
def made_client(gateway: str, tenant_key: str) -> Iterator[Callable[[str], Client]]:
    """Makes clients with a key; the tenant's unless another is given."""
    made: list[Client] = []

    def build(key: str = tenant_key) -> Client:
        made.append(Client(gateway, key, retries=0))
        return made[-1]

    yield build
    for client in made:
        client.close()
