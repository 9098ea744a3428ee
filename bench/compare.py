"""Ours and what people run today, one after the other: the same machine, Postgres, Redis and provider.

    python -m memlane.bench.compare [--peers mem0,langgraph,naive_celery] [--short] [--growth] [--json FILE]

It starts a stack of its own in a temporary directory, measures, and stops it; then what the parts can do alone, on
servers without workers. The peers' environments are made in .bench, from bench/peers/*.lock. One that fails is a line
in the table; the exit code is 1 then, and with --strict where a goal was missed.
"""

import argparse
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import memlane.bench
from memlane.bench.bare import bare
from memlane.bench.beside import beside_ingest, of_agents
from memlane.bench.caching import measure as measure_caches
from memlane.bench.comparison import Comparison
from memlane.bench.figures import LITTLE, MUCH, Amount
from memlane.bench.goals import goals
from memlane.bench.growth import TO
from memlane.bench.growth import measure as measure_growth
from memlane.bench.ours import measure_ours
from memlane.bench.output import Progress, publish, say
from memlane.bench.paced import measure as measure_paced
from memlane.bench.peer import PEERS, measure_peer
from memlane.bench.planning import measure as measure_planning
from memlane.bench.raw import measure as measure_raw
from memlane.bench.report import report
from memlane.bench.servers import DIMS, servers
from memlane.bench.sizes import measure as measure_sizes
from memlane.bench.systems import FULL, SHORT, TARGETS_MS, Sizes
from memlane.config.logging import configure_logging
from memlane.config.settings import load_settings


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is measured.

    Attributes:
        peers: beside ours, in this order.
        memories: that ours is given in batches.
        sizes: how much else is asked of each.
        amount: how much is asked of ours alone.
        latency_ms: of the provider.
        home: the folder of the peers' environments.
        torch: a Python that has sentence-transformers, if there is one.
        grow_to: memories of a stack that is filled at the end; 0: none is.
    """

    peers: Sequence[str]
    memories: int
    sizes: Sizes
    amount: Amount
    latency_ms: float
    home: Path
    torch: Path | None = None
    grow_to: int = 0


def compare(wanted: Wanted, progress: Progress) -> Comparison:
    """Measure ours, then each peer, then the parts alone; never two at a time."""
    progress("starting a stack")
    commit, amount = _commit(), wanted.amount
    with servers(wanted.latency_ms) as here:
        ours = measure_ours(here, wanted.memories, wanted.sizes, progress)
        most_per_s = max(way.searchable_per_s for way in ours.system.ways if way.batch == 100)
        paced = measure_paced(here, most_per_s / 2, amount.seconds)
        progress(f"paced: {paced.per_s:,.0f}/s, searchable in {paced.searchable_ms.p95} ms at p95")
        beside = beside_ingest(here, ours.recall[-2].memories, wanted.sizes.calls)
        progress(f"recall beside ingest: {beside.beside.p50} ms, {beside.alone.p50} alone")
        agents = of_agents(here, amount.agents, wanted.sizes.calls)
        progress(f"{amount.agents:,} agents at once: {agents.ingest_per_s:,.0f} memories/s")
        peers = [measure_peer(name, here, wanted.sizes, wanted.home, progress) for name in wanted.peers]
        versions = here.versions()
    with bare(wanted.latency_ms) as here_alone:
        raw = measure_raw(here_alone, amount, wanted.torch, progress)
        sizes = measure_sizes(here_alone, amount, progress)
        planning = measure_planning(here_alone, amount.agents, progress)
        caches = measure_caches(here_alone, amount.cached, progress)
    grown = measure_growth(wanted.grow_to, 100, wanted.latency_ms, progress) if wanted.grow_to else None
    return Comparison(
        systems=[ours.system, *peers],
        recall=ours.recall,
        targets_ms=TARGETS_MS,
        sizes=wanted.sizes,
        circumstances=ours.circumstances,
        versions=versions,
        provider={"latency_ms": wanted.latency_ms, "dims": DIMS},
        commit=commit,
        raw=raw,
        paced=paced,
        sizes_asked=sizes,
        beside=beside,
        agents=agents,
        planning=planning,
        caches=caches,
        growth=grown,
    )


def _commit() -> str | None:
    """The commit of the code that was measured; -dirty where it was changed since."""
    command = ["git", "-C", str(Path(memlane.bench.__file__).parent), "describe", "--always", "--dirty", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.strip() or None


def _given() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--peers", default=",".join(PEERS), help="with commas between them; - for none")
    parser.add_argument("--memories", type=int, default=20_000, help="that ours is given in batches of 100")
    parser.add_argument("--latency-ms", type=float, default=50, help="of the provider")
    parser.add_argument("--short", action="store_true", help="seconds instead of minutes; the figures say little")
    parser.add_argument("--environments", type=Path, default=Path(".bench"), help="where the peers are installed")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write one JSON document as well")
    parser.add_argument("--growth", type=int, nargs="?", const=TO, default=0, help="and fill a stack; ten minutes")
    parser.add_argument("--torch", type=Path, metavar="PYTHON", help="one that has sentence-transformers, to compare")
    parser.add_argument("--strict", action="store_true", help="a goal that is missed is an error")
    given = parser.parse_args()
    given.peers = [] if given.peers == "-" else given.peers.split(",")
    if unknown := set(given.peers) - set(PEERS):
        parser.error(f"no peer is called {', '.join(sorted(unknown))}: there are {', '.join(PEERS)}")
    return given


def _wanted(given: argparse.Namespace) -> Wanted:
    sizes, memories, amount = (
        (SHORT, min(given.memories, 1000), LITTLE) if given.short else (FULL, given.memories, MUCH)
    )
    given.environments.mkdir(parents=True, exist_ok=True)
    return Wanted(given.peers, memories, sizes, amount, given.latency_ms, given.environments, given.torch, given.growth)


def main() -> None:
    """Compare once, and print."""
    given = _given()
    configure_logging(load_settings(nodes={"none": "postgresql://none"}, log_level="ERROR"))
    found = compare(_wanted(given), say)
    publish(found, report(found), given.json)
    missed = [goal.what for goal in goals(found) if goal.reached is False]
    sys.exit(found.failed or bool(given.strict and missed))


if __name__ == "__main__":
    main()
