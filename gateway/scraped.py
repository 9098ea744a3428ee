"""Scraped: the parts of the system that /metrics shows, each with how it is looked at, and how often."""

import asyncio
from collections.abc import Callable, Sequence
from typing import TypeVar

from memlane.beat.duties import due
from memlane.contract import Ledger
from memlane.contract.status import NodeStatus
from memlane.contract.upkeep import Knob
from memlane.errors import Unavailable
from memlane.gateway.glance import Glance
from memlane.gateway.metrics import Metrics
from memlane.gateway.refreshing import Part
from memlane.gateway.threads import LOOK_S, NodeThreads
from memlane.storage import embedding_cache, ledger, status
from memlane.storage.cluster import Cluster
from memlane.storage.looks import Look
from memlane.tasks.lane import Lane

T = TypeVar("T")

_EVERY_S = 5.0

_SUMS_EVERY_S = 60.0

_LEDGER_EVERY_S = 900.0
"""How often the ledger is added up, which reads all of it."""


class Scraped:
    """Asks nodes and shards for what /metrics shows of them.

    The ledger is added up by a thread of its own, shard by shard: it may take long, and takes no thread, and at most
    one connection, from those who are served.
    """

    def __init__(self, lane: Lane, threads: NodeThreads, metrics: Metrics, nodes: Glance[list[NodeStatus]]) -> None:
        self._lane = lane
        self._threads = threads
        self._metrics = metrics
        self._nodes = nodes
        first: Ledger | None = None
        self._ledger = Look("ledger", lambda: _ledger(lane.cluster), _LEDGER_EVERY_S, first)

    def parts(self) -> Sequence[Part]:
        """What is looked at, side by side."""
        return (
            Part("backlog", self._backlog, _EVERY_S),
            Part("nodes", self._which_nodes, _EVERY_S),
            Part("control", self._control, _EVERY_S),
            Part("knobs", self._knobs, _EVERY_S),
            Part("strays", self._strays, _EVERY_S),
            Part("cached", self._cached, _SUMS_EVERY_S),
            Part("ledger", self._sums, _SUMS_EVERY_S),
        )

    def close(self) -> None:
        """Add up no more."""
        self._ledger.close()

    async def _backlog(self) -> None:
        cluster = self._lane.cluster
        found = await self._each(lambda number: status.backlog_of(cluster, number))
        self._metrics.backlog(None if isinstance(one, Unavailable) else one for one in found)

    async def _which_nodes(self) -> None:
        self._metrics.nodes(await self._nodes.now())

    async def _control(self) -> None:
        await self._threads.on_control(self._ask_control, LOOK_S)

    def _ask_control(self) -> None:
        control, settings = self._lane.cluster.control, self._lane.settings
        self._metrics.spent.look(control, settings.alert_percents)
        self._metrics.together.look(control, settings.lost_s)
        self._metrics.healthy.look(control, due(settings))

    async def _knobs(self) -> None:
        """They are read in the background already."""
        knobs, settings = self._lane.cluster.knobs, self._lane.settings
        self._metrics.knobs({knob.value: knobs.of(settings, knob) for knob in Knob})

    async def _strays(self) -> None:
        cluster = self._lane.cluster
        found = await self._each(lambda number: status.strays_of(cluster, number))
        self._metrics.strays(stray for one in found if not isinstance(one, Unavailable) for stray in one)

    async def _cached(self) -> None:
        cluster = self._lane.cluster
        found = await self._each(lambda number: embedding_cache.rows(cluster.shard(number)))
        counts = [one for one in found if isinstance(one, int)]
        if len(counts) == len(found):
            self._metrics.accounts.cached = sum(counts)

    async def _sums(self) -> None:
        """Take over what was added up last; what never was is tried again without that long a rest."""
        found = await asyncio.to_thread(lambda: self._ledger.value)
        self._metrics.accounts.ledger = found
        if found is None:
            self._ledger.hurry()

    async def _each(self, work: Callable[[int], T]) -> list[T | Unavailable]:
        return await self._threads.on_each(range(self._lane.cluster.shard_count), work, LOOK_S)


def _ledger(cluster: Cluster) -> Ledger:
    """The sums of all tenants. Counts only grow, so one that lacks a shard is none.

    Raises:
        Unavailable: a shard does not answer.
    """
    return ledger.added({number: ledger.sums(cluster.shard(number), None) for number in range(cluster.shard_count)})
