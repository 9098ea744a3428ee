"""Groups: who hands something over for a node while others are being taken in there joins whoever comes next.

This is a group commit: the parts of several requests, whosever they are, go into one transaction, and each request
gets its own answer. Who comes to a node at rest begins at once; right after a group the next one waits a moment, since
those who were just answered mostly come again.
"""

import asyncio
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextvars import Context, copy_context
from dataclasses import dataclass, field

from memlane.errors import NodeDown, Unavailable
from memlane.gateway.threads import NodeThreads
from memlane.tasks import accept
from memlane.tasks.accept import Part, Result
from memlane.tasks.lane import Lane

_MOST_ITEMS = 512
"""A group that has so many items takes in nobody else."""

_MOMENT_S = 0.0015
"""How long the group after a group waits for more, and for how long a node is not at rest after one."""

_LONG_S = 0.05
"""A group that takes longer no longer keeps the next one from beginning: it may wait for a lock that is no concern of
theirs."""


@dataclass(eq=False, slots=True)
class _Caller:
    """Who waits for an answer."""

    part: Part
    context: Context
    answer: asyncio.Future[dict[int, Result]]


@dataclass(eq=False, slots=True)
class _Line:
    """Who waits for a node, and whether a group of them is under way or about to be."""

    waiting: deque[_Caller] = field(default_factory=deque)
    busy: bool = False
    rests_at: float = 0.0
    """From when on the node is at rest, on the loop's clock."""


class Groups:
    """The groups of a gateway, one node's beside the other's.

    Args:
        lane: this process's.
        threads: where they are taken in.
    """

    def __init__(self, lane: Lane, threads: NodeThreads) -> None:
        self._lane = lane
        self._threads = threads
        self._most_waiting = lane.settings.gateway_queue
        self._patience_s = lane.settings.statement_timeout_s + lane.settings.pool_wait_s
        self._lines: dict[str, _Line] = {}
        self._running: set[asyncio.Task[None]] = set()

    async def take(self, part: Part) -> dict[int, Result]:
        """Accept a request's part for a shard, with those of others; its own results by place.

        Raises:
            NodeDown: it took too long; whether it was done is not known.
            Unavailable: too many wait already.
        """
        lane = self._lane
        node = lane.cluster.node_of(part.shard)
        if node is None or accept.alone(lane, part):
            shard, tenant, items = part.shard, part.tenant, part.items
            return await self._threads.on_shard(shard, lambda: accept.on_shard(lane, tenant, shard, items))
        line = self._lines.setdefault(node, _Line())
        if len(line.waiting) >= self._most_waiting:
            raise Unavailable(f"too many calls wait for node {node}", 1.0)
        caller = _Caller(part, copy_context(), asyncio.get_running_loop().create_future())
        line.waiting.append(caller)
        self._begin_soon(line)
        try:
            async with asyncio.timeout(self._patience_s):
                return await caller.answer
        except TimeoutError:
            raise NodeDown(f"node {node} does not answer") from None

    def _begin_soon(self, line: _Line) -> None:
        """Begin a group once all who have come by now stand in the line, or a moment later; unless one is under way."""
        if line.waiting and not line.busy:
            line.busy = True
            loop = asyncio.get_running_loop()
            if loop.time() < line.rests_at:
                loop.call_at(line.rests_at, self._begin, line)
            else:
                loop.call_soon(self._begin, line)

    def _begin(self, line: _Line) -> None:
        group = _next(line)
        if not group:
            line.busy = False
            return
        # What is done belongs to the trace of whoever came first.
        task = asyncio.get_running_loop().create_task(self._run(line, group), context=group[0].context)
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _run(self, line: _Line, group: Sequence[_Caller]) -> None:
        loop = asyncio.get_running_loop()
        late = loop.call_later(_LONG_S, self._go_on, line)
        parts = [caller.part for caller in group]
        try:
            found = await self._threads.on_shard(parts[0].shard, lambda: accept.together(self._lane, parts))
        except Exception as error:  # noqa: BLE001  # each of them is told
            for caller in _still_there(group):
                caller.answer.set_exception(error)
        else:
            answers = dict(zip(group, found, strict=True))
            for caller in _still_there(group):
                caller.answer.set_result(answers[caller])
        if loop.time() < late.when():
            late.cancel()
            line.rests_at = loop.time() + _MOMENT_S
            self._go_on(line)

    def _go_on(self, line: _Line) -> None:
        line.busy = False
        self._begin_soon(line)


def _next(line: _Line) -> list[_Caller]:
    """Whoever is in the next group, in the order in which they came."""
    group: list[_Caller] = []
    items = 0
    while line.waiting and items < _MOST_ITEMS:
        caller = line.waiting.popleft()
        if not caller.answer.done():
            group.append(caller)
            items += len(caller.part.items)
    return group


def _still_there(group: Iterable[_Caller]) -> Iterator[_Caller]:
    """Those who have not gone away meanwhile."""
    return (caller for caller in group if not caller.answer.done())
