"""Many clients at once, each of which remembers one memory after the other and does not wait for its vector."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from functools import partial
from itertools import islice
from time import perf_counter

from memlane.bench import sockets
from memlane.bench.ingest import stats
from memlane.bench.servers import Servers
from memlane.bench.systems import Way, way_of
from memlane.bench.texts import fresh_texts
from memlane.client import AsyncClient
from memlane.contract import MemoryItem
from memlane.contract.ledger import Event

CLIENTS = 64
_AGENTS = 100
_LOOK_S = 0.02
_PATIENCE_S = 600.0


def with_clients(here: Servers, memories: int) -> Way:
    """Through as many of our clients, each with a connection of its own that is there before the clock runs."""

    async def run() -> Way:
        items = (MemoryItem(agent=agent, content=text) for agent, text in _texts(memories))
        async with AsyncExitStack() as stack:
            made = [AsyncClient(here.url, here.secrets.tenant_key, timeout=120) for _ in range(CLIENTS)]
            clients = [await stack.enter_async_context(client) for client in made]
            await asyncio.gather(*(client.ledger() for client in clients))
            return await _measured(here, f"remember, {CLIENTS} clients", memories, partial(_send, clients, items))

    return asyncio.run(run())


def with_sockets(here: Servers, memories: int) -> Way:
    """Over as many connections, with requests that are ready: what the servers can do if clients cost nothing."""
    bodies = (json.dumps({"memories": [{"agent": agent, "content": text}]}) for agent, text in _texts(memories))
    ready = [sockets.encoded(here.url, here.secrets.tenant_key, "/v1/memories", body.encode()) for body in bodies]
    send = partial(sockets.send_all, here.url, ready, CLIENTS)
    return asyncio.run(_measured(here, f"bare HTTP, {CLIENTS} connections", memories, send))


async def _send(clients: Sequence[AsyncClient], items: Iterator[MemoryItem]) -> None:
    async def one(client: AsyncClient) -> None:
        for item in items:
            await client.remember_many([item])

    await asyncio.gather(*map(one, clients))


async def _measured(here: Servers, name: str, memories: int, send: Callable[[], Awaitable[None]]) -> Way:
    async with AsyncClient(here.url, here.secrets.tenant_key, timeout=120) as client:
        goal = await _embedded(client) + memories
        asked, cpu_s, begun = stats(here.provider), here.cpu_s(), perf_counter()
        await send()
        await _until(client, goal)
        took_s = perf_counter() - begun
    spent = (cpu_s, here.cpu_s())
    return way_of(name, (CLIENTS, 1), (memories, memories), took_s, (asked, stats(here.provider)), spent)


async def _until(client: AsyncClient, goal: int) -> None:
    """Wait until there are so many vectors.

    Raises:
        TimeoutError: they do not come.
    """
    async with asyncio.timeout(_PATIENCE_S):
        while await _embedded(client) < goal:  # noqa: ASYNC110  # the ledger tells nobody
            await asyncio.sleep(_LOOK_S)


async def _embedded(client: AsyncClient) -> int:
    """How many vectors there are, as the ledger says."""
    return (await client.ledger()).events.get(Event.EMBEDDED, 0)


def _texts(count: int) -> Iterator[tuple[str, str]]:
    return ((f"bench-{number % _AGENTS}", text) for number, text in enumerate(islice(fresh_texts(1), count)))
