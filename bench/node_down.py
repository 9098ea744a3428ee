"""What the shards of a living node still do while the other node is down, as a share of what they did before.

    python -m memlane.bench.node_down [--seconds 15] [--json FILE]

It starts a stack with two Postgres nodes in a temporary directory. The load is for the agents of node-1 alone, once
while both nodes live, and once while node-2 is killed, and then hung, and callers go on asking for its agents.
"""

import argparse
import asyncio
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import cycle, islice
from pathlib import Path
from time import monotonic, perf_counter

from memlane.admin import Admin
from memlane.bench.figures import Circumstances, Percentiles, circumstances, percentiles
from memlane.bench.outage import hung, killed, wait_until_up
from memlane.bench.output import publish, say, told
from memlane.bench.servers import Servers, servers
from memlane.bench.texts import fresh_texts, queries
from memlane.client import AsyncClient
from memlane.contract import MemoryItem
from memlane.embedded.stack import TENANT
from memlane.errors import MemlaneError
from memlane.storage.hashing import shard_of

TARGET = 0.9
"""The least share of its throughput that the living node should keep."""

_DOWN = "node-2"
_AGENTS = 50
_BATCH = 100
_PRODUCERS = 8
_CALLERS = 4
"""Of the agents of the node that goes down."""


@dataclass(frozen=True, slots=True)
class Phase:
    """What the agents of the living node got in a time.

    Attributes:
        name: what was down.
        per_s: memories that became searchable in a second.
        accept_ms: until the receipts of a batch of 100 were there.
        recall_ms: of recalls beside that load.
        refused_ms: how long callers for the other node's agents waited for their answer, where it was down.
        refused: how many of them there were.
    """

    name: str
    per_s: float
    accept_ms: Percentiles
    recall_ms: Percentiles
    refused_ms: Percentiles | None = None
    refused: int = 0


@dataclass(frozen=True, slots=True)
class Outage:
    """An outage beside what was before it."""

    before: Phase
    first: Phase
    """When it began: what was under way on that node holds up who did it, until it is given up."""
    during: Phase
    """After that."""
    back_s: float
    """From when the node answered again until its open work was done."""

    @property
    def share(self) -> float:
        """Of its throughput before that the living node kept."""
        return self.during.per_s / self.before.per_s if self.before.per_s else 0.0


@dataclass(frozen=True, slots=True)
class NodeDown:
    """Both outages, and what they rest on."""

    outages: Sequence[Outage]
    seconds: float
    circumstances: Circumstances
    versions: Mapping[str, str]

    @property
    def kept(self) -> bool:
        """Whether the target was met."""
        return all(outage.share >= TARGET for outage in self.outages)


@dataclass
class _Counted:
    """What one phase has seen so far."""

    until: float
    searchable: int = 0
    accept_ms: list[float] = field(default_factory=list)
    recall_ms: list[float] = field(default_factory=list)
    refused_ms: list[float] = field(default_factory=list)


def measure(seconds: float, progress: Callable[[str], None]) -> NodeDown:
    """Measure both kinds of outage."""
    progress("starting a stack with two nodes")
    with servers(50, nodes=2) as here, closing(Admin(here.url, here.secrets.admin_key)) as admin:
        living, dead = _agents(admin)
        _phase(here, "warm", seconds / 3, living, [])
        outages = []
        for name, outage in (("killed", killed), ("hung", hung)):
            here.settle()
            before = _phase(here, "both nodes up", seconds, living, [])
            progress(f"both nodes up: {before.per_s:.0f} memories/s")
            asyncio.run(_leave_open(here, dead))
            with outage(here, _DOWN):
                first = _phase(here, f"{_DOWN} {name}", seconds, living, dead)
                progress(f"{first.name}, at first: {first.per_s:.0f} memories/s")
                during = _phase(here, f"{_DOWN} {name}", seconds, living, dead)
            progress(f"{during.name}, then: {during.per_s:.0f} memories/s")
            wait_until_up(here, _DOWN)
            begun = monotonic()
            here.settle()
            outages.append(Outage(before, first, during, monotonic() - begun))
        return NodeDown(outages, seconds, circumstances(admin.status()), here.versions())


def _agents(admin: Admin) -> tuple[list[str], list[str]]:
    """Agents of the node that lives on, and of the one that goes down."""
    shards = admin.status().shards
    nodes = {shard.shard: shard.node for shard in shards}
    found: tuple[list[str], list[str]] = [], []
    number = 0
    while min(map(len, found)) < _AGENTS:
        agent = f"agent-{number}"
        found[nodes[shard_of(TENANT, agent, len(nodes))] == _DOWN].append(agent)
        number += 1
    return found[0][:_AGENTS], found[1][:_AGENTS]


def _phase(here: Servers, name: str, seconds: float, living: Sequence[str], dead: Sequence[str]) -> Phase:
    counted = _Counted(monotonic() + seconds)
    begun = monotonic()
    asyncio.run(_load(here, counted, living, dead))
    took = min(monotonic() - begun, seconds)
    refused = percentiles(counted.refused_ms) if counted.refused_ms else None
    return Phase(
        name=name,
        per_s=round(counted.searchable / took, 1),
        accept_ms=percentiles(counted.accept_ms),
        recall_ms=percentiles(counted.recall_ms),
        refused_ms=refused,
        refused=len(counted.refused_ms),
    )


async def _load(here: Servers, counted: _Counted, living: Sequence[str], dead: Sequence[str]) -> None:
    texts = fresh_texts(1)
    async with (
        AsyncClient(here.url, here.secrets.tenant_key, timeout=120) as client,
        AsyncClient(here.url, here.secrets.tenant_key, timeout=120, retries=0) as once,
    ):
        await client.recall(living[0], "tea")  # the connection is there, and the provider was asked
        producers = [_produce(client, counted, texts, living) for _ in range(_PRODUCERS)]
        callers = [_call(once, counted, texts, dead) for _ in range(_CALLERS if dead else 0)]
        await asyncio.gather(*producers, *callers, _recall(once, counted, living))


async def _produce(client: AsyncClient, counted: _Counted, texts: Iterator[str], agents: Sequence[str]) -> None:
    """Batch after batch, each when the one before can be found by meaning."""
    turn = cycle(agents)
    while monotonic() < counted.until:
        items = [MemoryItem(agent=agent, content=next(texts)) for agent in islice(turn, _BATCH)]
        sent = perf_counter()
        result = await client.remember_many(items)
        counted.accept_ms.append((perf_counter() - sent) * 1000)
        await result.wait("searchable", timeout=120)
        if monotonic() < counted.until:
            counted.searchable += len(items)


async def _call(client: AsyncClient, counted: _Counted, texts: Iterator[str], agents: Sequence[str]) -> None:
    """Ask for agents of the node that is down, again and again."""
    for agent in cycle(agents):
        if monotonic() >= counted.until:
            return
        sent = perf_counter()
        try:
            await client.remember(agent, next(texts))
        except MemlaneError:
            counted.refused_ms.append((perf_counter() - sent) * 1000)
        await asyncio.sleep(0.05)


async def _recall(client: AsyncClient, counted: _Counted, agents: Sequence[str]) -> None:
    questions = queries(1)
    for agent in cycle(agents):
        if monotonic() >= counted.until:
            return
        sent = perf_counter()
        await client.recall(agent, next(questions))
        counted.recall_ms.append((perf_counter() - sent) * 1000)
        await asyncio.sleep(0.1)


async def _leave_open(here: Servers, agents: Sequence[str]) -> None:
    """Work for the node that goes down a moment later."""
    texts = fresh_texts(2)
    async with AsyncClient(here.url, here.secrets.tenant_key, timeout=120) as client:
        await client.remember_many([MemoryItem(agent=agent, content=next(texts)) for agent in agents])


def report(found: NodeDown) -> str:
    """Everything, for people, in Markdown."""
    meant = (
        f"Memories of node-1's agents that become searchable in a second, {found.seconds:.0f} s each, while {_DOWN} is "
        f"down and {_CALLERS} callers go on asking for its agents (target: {TARGET:.0%} of before):"
    )
    meaning = (
        "share: then, of before; ms: p50 / p99, before and then; refused: the 503 to callers of node-2's agents; back: "
        "from when it answered until its open work was done."
    )
    lines = [
        meant,
        "",
        "| node-2 | before | at first | then | share | accept of 100, ms | recall, ms | refused, ms | back in s |",
        "| ------ | ------ | -------- | ---- | ----- | ----------------- | ---------- | ----------- | --------- |",
        *(_line(outage) for outage in found.outages),
        "",
        meaning,
        "",
        *told(found.circumstances, found.versions),
    ]
    return "\n".join(lines) + "\n"


def _line(outage: Outage) -> str:
    before, during = outage.before, outage.during
    cells = (
        during.name.removeprefix(f"{_DOWN} "),
        f"{before.per_s:,.0f}",
        f"{outage.first.per_s:,.0f}",
        f"{during.per_s:,.0f}",
        f"{outage.share:.0%}",
        f"{_ms(before.accept_ms)}, {_ms(during.accept_ms)}",
        f"{_ms(before.recall_ms)}, {_ms(during.recall_ms)}",
        f"{_ms(during.refused_ms)} of {during.refused}" if during.refused_ms else "-",
        f"{outage.back_s:.1f}",
    )
    return f"| {' | '.join(cells)} |"


def _ms(found: Percentiles) -> str:
    return f"{found.p50:.0f} / {found.p99:.0f}"


def main() -> None:
    """Measure once, and print; the exit code is 1 if the target was missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=15, help="of each phase")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write one JSON document as well")
    given = parser.parse_args()
    found = measure(given.seconds, say)
    publish(found, report(found), given.json)
    sys.exit(not found.kept)


if __name__ == "__main__":
    main()
