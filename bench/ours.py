"""Ours, measured as the peers are: over HTTP, with the client that an agent app holds."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass

from memlane import __version__
from memlane.admin import Admin
from memlane.bench.cpu import since
from memlane.bench.crowd import with_clients, with_sockets
from memlane.bench.figures import Circumstances, percentiles
from memlane.bench.ingest import IngestFigures, Load, bench_ingest
from memlane.bench.output import Progress
from memlane.bench.reads import bench_get, bench_scan
from memlane.bench.recall import RecallFigures, agent_of, bench_recall
from memlane.bench.servers import Servers
from memlane.bench.systems import Row, Sizes, System, Way
from memlane.client import Client

_AGENTS = 100
_PRODUCERS = 4
_CALLERS = 32
_SMALLER_AGENTS = (100, 1000)
_NOTES = (
    "a call returns when the memory is durable; the vector follows, and a provider that is down delays it alone",
    "over HTTP through the gateway, while the peers' calls go to Postgres from the caller's process",
)


@dataclass(frozen=True, slots=True)
class Ours:
    """Our figures.

    Attributes:
        system: in the form of all systems.
        recall: by agent size.
        circumstances: of the run.
    """

    system: System
    recall: Sequence[RecallFigures]
    circumstances: Circumstances


def measure_ours(servers: Servers, memories: int, sizes: Sizes, progress: Progress) -> Ours:
    """Store, read and ask.

    Args:
        servers: a stack that is up, and its provider.
        memories: how many are stored in batches.
        sizes: how much else is asked.
        progress: told each step.
    """
    url, key, provider = servers.url, servers.secrets.tenant_key, servers.provider
    batched = Load(memories, _AGENTS, 100, _PRODUCERS, provider)
    smaller = [Load(10 * size * sizes.batches, _AGENTS, size, _PRODUCERS, provider) for size in (10, 50)]
    one_by_one = Load(sizes.one_by_one, _AGENTS, 1, 1, provider)
    callers = Load(sizes.memories, _AGENTS, 1, _CALLERS, provider, idle=True)
    lone = Load(sizes.calls, _AGENTS, 1, 1, provider, idle=True)
    batches = Load(100 * sizes.batches, _AGENTS, 100, 1, provider, idle=True)
    agents = [*(size for size in _SMALLER_AGENTS if size < sizes.agent_size), sizes.agent_size]
    with closing(Admin(url, servers.secrets.admin_key)) as admin, Client(url, key, timeout=120) as client:

        def ingest(name: str, load: Load) -> IngestFigures:
            found = bench_ingest(url, key, admin, load, _ignore)
            progress(f"memlane: {name}: {found.searchable_per_s:.0f} memories/s")
            return found

        def way(name: str, load: Load) -> Way:
            before = servers.cpu_s()
            return _way(name, ingest(name, load), since(before, servers.cpu_s()))

        ways = [
            way("remember, one by one", one_by_one),
            way(f"remember and wait, {_CALLERS} callers", callers),
            with_clients(servers, sizes.memories),
            with_sockets(servers, sizes.memories),
            *(way(f"remember_many, {_PRODUCERS} callers", load) for load in smaller),
            way(f"remember_many, {_PRODUCERS} callers", batched),
        ]
        single = ingest("remember, each when the one before is searchable", lone)
        hundred = ingest("remember_many, each when the one before is searchable", batches)
        recall = bench_recall(url, key, admin, agents, sizes.calls, _ignore)
        progress(f"memlane: an agent has {sizes.agent_size} memories")
        servers.settle()
        large, agent = recall.sizes[-1], agent_of(sizes.agent_size)
        latency = {
            Row.STORE_ONE: single.accept_ms,
            Row.STORE_ONE_SEARCHABLE: single.searchable_ms,
            Row.GET: percentiles(bench_get(client, agent, sizes.calls)),
            Row.SEARCH: large.recall_ms,
            Row.SEARCH_BESIDE: large.beside_ms,
            Row.BATCH_OF_100: hundred.accept_ms,
            Row.BATCH_OF_100_SEARCHABLE: hundred.searchable_ms,
            Row.SCAN: percentiles(bench_scan(client, agent, sizes.agent_size, sizes.scans)),
        }
    system = System("memlane", {"memlane": __version__}, _NOTES, ways, latency)
    return Ours(system, recall.sizes, recall.circumstances)


def _way(name: str, figures: IngestFigures, cpu_s: Mapping[str, float]) -> Way:
    load, asked = figures.load, figures.provider
    assert asked is not None
    return Way(
        name=name,
        side_by_side=load.producers,
        batch=load.batch,
        memories=load.memories,
        stored=load.memories,  # bench_ingest has waited for each
        searchable_per_s=figures.searchable_per_s,
        requests=asked.requests,
        inputs=asked.inputs,
        cpu_s=cpu_s,
    )


def _ignore(_count: int) -> None:
    """Nobody looks at the progress."""
