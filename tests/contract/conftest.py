"""The two clients that have to behave alike: over HTTP against a real gateway, and in memory."""

import asyncio
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Event, Thread

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.types import Message, Receive, Scope, Send

from memlane import Client
from memlane.client.front import Front
from memlane.config.settings import Settings
from memlane.gateway.app import create_app
from memlane.gateway.protocol import BoundedProtocol
from memlane.storage import tenants
from memlane.storage.jobs import Kind
from memlane.storage.roles import GATEWAY, WORKER
from memlane.tasks.lane import Lane
from memlane.testing import InMemoryClient
from memlane.workers import drains
from memlane.workers.wakeups import DRAIN_OF
from tests.support import Recorder, as_role, eventually, process_of


class Noted:
    """An app, and how it answered what: method, path as in its description, status."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app
        self._seen: set[tuple[str, str, int]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def noting(message: Message) -> None:
            route = scope.get("route")
            if message["type"] == "http.response.start" and isinstance(route, APIRoute) and route.include_in_schema:
                self._seen.add((scope["method"].lower(), route.path_format, message["status"]))
            await send(message)

        await self._app(scope, receive, noting)

    def undescribed(self) -> list[tuple[str, str, int]]:
        """The answers of which the API's description says nothing; a failure of ours, or no such method, is none."""
        paths = self._app.openapi()["paths"]
        return sorted(
            (method, path, status)
            for method, path, status in self._seen
            if status not in (405, 500) and str(status) not in paths[path][method]["responses"]
        )


@contextmanager
def serving(settings: Settings) -> Iterator[str]:
    """A gateway on a port of its own, with its role's rights; it answers only as its description says."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    app = Noted(create_app(as_role(settings, GATEWAY)))
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
    assert app.undescribed() == [], "an endpoint declares its answers: responses={...}, failing(...)"


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


@dataclass(frozen=True, slots=True)
class Target:
    """A gateway, keys for it, and somebody who does the work."""

    url: str
    lane: Lane
    tenant_key: str
    admin_key: str

    def http(self) -> httpx.Client:
        """Plain HTTP with the tenant's key."""
        return httpx.Client(base_url=self.url, headers={"Authorization": f"Bearer {self.tenant_key}"}, timeout=30)


@pytest.fixture(scope="module")
def target(lasting_settings: Settings) -> Iterator[Target]:
    """One for all tests of a module."""
    recorder = Recorder()
    lane = Lane(lasting_settings, "test", recorder)
    lane.open()
    control = lane.cluster.control
    tenants.create_tenant(control, "acme")
    keys = tenants.create_key(control, "acme"), tenants.create_key(control, None)
    with serving(lasting_settings) as url, working(lane, recorder):
        yield Target(url, lane, *keys)
    lane.close()


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
