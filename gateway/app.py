"""The gateway: the HTTP API. Async at the door, the same storage behind it in bounded threads."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

import structlog
from fastapi import Depends, FastAPI
from starlette.types import Receive, Scope, Send

from memlane import __version__
from memlane.config.settings import Serves, Settings
from memlane.errors import Forbidden, InvalidInput, MemlaneError, Unauthorized, Unavailable
from memlane.gateway import openapi, overview, problems
from memlane.gateway.answers import Answers
from memlane.gateway.auth import Keys
from memlane.gateway.glance import Glance
from memlane.gateway.groups import Groups
from memlane.gateway.metrics import Measured, Metrics
from memlane.gateway.parameters import known_only
from memlane.gateway.questions import Questions
from memlane.gateway.rating import Rating
from memlane.gateway.refreshing import Refreshing
from memlane.gateway.resuming import Resuming
from memlane.gateway.routes import (
    admin,
    agents,
    budgets,
    caches,
    costs,
    docs,
    health,
    memories,
    parked,
    probes,
    recall,
    receipts,
    set_aside,
    upkeep,
)
from memlane.gateway.scraped import Scraped
from memlane.gateway.state import Gateway
from memlane.gateway.straight import Straight
from memlane.gateway.tally import Tally
from memlane.gateway.threads import NodeThreads
from memlane.gateway.unread import CloseUnread
from memlane.gateway.waiters import Waiters
from memlane.gateway.watchdog import Watchdog
from memlane.tasks.lane import Lane
from memlane.tasks.memory import Container, container, held_of
from memlane.tasks.pulse import Pulse, new_name
from memlane.tasks.rates import make_rates
from memlane.workers.app import make_app
from memlane.workers.broker import broker_status
from memlane.workers.marks import make_marks
from memlane.workers.wakeups import Wakeups

_REFUSALS = problems.failing(Unauthorized, Forbidden, InvalidInput, Unavailable)
"""How any request with a key may be answered."""

log = structlog.get_logger(__name__)


def create_app(settings: Settings) -> FastAPI:
    """The gateway as an ASGI app; it connects when it is started."""
    metrics = Metrics()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        gateway = _make(settings, metrics)
        app.state.gateway = gateway
        gateway.lane.open()
        await _first_map(gateway)
        await asyncio.to_thread(gateway.lane.cluster.begin)
        if settings.serves is not Serves.ADMIN:
            await asyncio.to_thread(lambda: gateway.lane.provider)
        tally = asyncio.create_task(gateway.tally.run())
        pulse = Pulse(gateway.lane, new_name(), "gateway", partial(_look, gateway.lane, container()))
        pulse.start()
        watchdog = Watchdog(gateway.lane)
        watchdog.start()
        if settings.ready_file is not None:
            settings.ready_file.touch()
        try:
            yield
        finally:
            tally.cancel()
            with suppress(asyncio.CancelledError):
                await tally
            await gateway.refreshing.close()
            gateway.scraped.close()
            await gateway.resuming.close()
            await gateway.tally.flush()
            await asyncio.to_thread(watchdog.stop)
            await asyncio.to_thread(pulse.stop)
            gateway.threads.close()
            gateway.questions.close()
            gateway.answers.close()
            gateway.keys.close()
            gateway.rating.close()
            gateway.lane.close()

    app = _App(
        title="memlane",
        version=__version__,
        description="Durable, searchable long-term memory for AI agents.",
        lifespan=lifespan,
        redirect_slashes=False,  # it would send callers to wherever their Host header says
        docs_url=None,  # FastAPI's own load scripts from elsewhere
        redoc_url=None,
    )
    for router in _ROUTERS[settings.serves]:
        app.include_router(router, dependencies=[Depends(known_only)], responses=_REFUSALS)
    app.include_router(probes.router)
    app.include_router(docs.router)
    problems.install(app)
    app.add_middleware(Measured, metrics=metrics)
    app.add_middleware(CloseUnread)
    app.straight = Straight(_ROUTERS[settings.serves], metrics)
    return app


_TENANTS = (memories.router, receipts.router, recall.router, agents.router, parked.router, budgets.router)
_ADMIN = (admin.router, health.router, set_aside.router, costs.router, upkeep.router, caches.router)

_ROUTERS = {
    Serves.ALL: (*_TENANTS, *_ADMIN),
    Serves.TENANTS: _TENANTS,
    Serves.ADMIN: _ADMIN,
}


class _App(FastAPI):
    """Completes what FastAPI says of the API, and lets what comes by the thousand pass it by."""

    straight: Straight

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] == "http" and self.straight.serves(scope):
            scope["app"] = self
            await self.straight(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)

    def openapi(self) -> dict[str, Any]:
        """The description, made when somebody first asks for it."""
        if self.openapi_schema is None:
            self.openapi_schema = openapi.completed(super().openapi())
        return self.openapi_schema


def _make(settings: Settings, metrics: Metrics) -> Gateway:
    celery = make_app(settings)
    wake = Wakeups(celery, make_marks(settings.marks_url, settings.mark_s))
    lane = Lane(settings, "gateway", wake, pool_size=settings.gateway_threads)
    lane.ask_broker = lambda: broker_status(celery, settings.broker_url.get_secret_value())
    threads = NodeThreads(lane.cluster, settings)
    tally = Tally(lane, threads)
    answers = Answers(lane, threads, settings)
    rating = Rating(make_rates(lane.cluster.terms, settings.marks_url))
    nodes = Glance(lambda: overview.nodes(threads))
    scraped = Scraped(lane, threads, metrics, nodes)
    metrics.shares_rates(lambda: not rating.alone)
    return Gateway(
        settings=settings,
        lane=lane,
        threads=threads,
        answers=answers,
        questions=Questions(lane, threads, answers, settings, tally.embedded),
        groups=Groups(lane, threads),
        keys=Keys(lane.cluster.control, settings.key_cache_s, tally.used),
        waiters=Waiters(lane, threads, settings.poll_s),
        tally=tally,
        rating=rating,
        resuming=Resuming(lane, threads),
        metrics=metrics,
        scraped=scraped,
        refreshing=Refreshing(scraped.parts()),
        nodes=nodes,
        health=Glance(lambda: overview.health(lane)),
        broker=lane.ask_broker,
    )


def _look(lane: Lane, around: Container | None) -> None:
    """Bring up to date what a pulse tells: a gateway has no limit of its own, and is never throttled for its memory."""
    lane.measures.memory(held_of(around), 0)


async def _first_map(gateway: Gateway) -> None:
    """Read the shard map; without any node we wait for one rather than serve nobody."""
    said = ""
    while True:
        try:
            return await asyncio.to_thread(gateway.lane.cluster.refresh)
        except MemlaneError as error:
            if said != str(error):
                said = str(error)
                log.warning("gateway.no_map", why=said)
            await asyncio.sleep(1.0)
