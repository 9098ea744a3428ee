"""Ours and what people run today, one after the other: the same machine, Postgres, Redis and provider.

    python -m memlane.bench.compare [--peers mem0,langgraph,naive_celery] [--short] [--json FILE]

It starts a stack of its own in a temporary directory, measures, and stops it. The peers' environments are made in
.bench, from bench/peers/*.lock. One that fails is a line in the table; the exit code is 1 then.
"""

import argparse
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import memlane.bench
from memlane.bench.comparison import Comparison
from memlane.bench.ours import measure_ours
from memlane.bench.output import Progress, publish, say
from memlane.bench.peer import PEERS, measure_peer
from memlane.bench.report import report
from memlane.bench.servers import DIMS, servers
from memlane.bench.systems import FULL, SHORT, TARGETS_MS, Sizes


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is measured.

    Attributes:
        peers: beside ours, in this order.
        memories: that ours is given in batches.
        sizes: how much else is asked of each.
        latency_ms: of the provider.
        home: the folder of the peers' environments.
    """

    peers: Sequence[str]
    memories: int
    sizes: Sizes
    latency_ms: float
    home: Path


def compare(wanted: Wanted, progress: Progress) -> Comparison:
    """Measure ours, then each peer; never two at a time."""
    progress("starting a stack")
    commit = _commit()
    with servers(wanted.latency_ms) as here:
        ours = measure_ours(here, wanted.memories, wanted.sizes, progress)
        peers = [measure_peer(name, here, wanted.sizes, wanted.home, progress) for name in wanted.peers]
        return Comparison(
            systems=[ours.system, *peers],
            recall=ours.recall,
            targets_ms=TARGETS_MS,
            sizes=wanted.sizes,
            circumstances=ours.circumstances,
            versions=here.versions(),
            provider={"latency_ms": here.latency_ms, "dims": DIMS},
            commit=commit,
        )


def _commit() -> str | None:
    """The commit of the code that was measured; -dirty where it was changed since."""
    command = ["git", "-C", str(Path(memlane.bench.__file__).parent), "describe", "--always", "--dirty", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.strip() or None


def _wanted() -> tuple[Wanted, Path | None]:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--peers", default=",".join(PEERS), help="with commas between them; - for none")
    parser.add_argument("--memories", type=int, default=20_000, help="that ours is given in batches of 100")
    parser.add_argument("--latency-ms", type=float, default=50, help="of the provider")
    parser.add_argument("--short", action="store_true", help="seconds instead of minutes; the figures say little")
    parser.add_argument("--environments", type=Path, default=Path(".bench"), help="where the peers are installed")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write one JSON document as well")
    given = parser.parse_args()
    peers = [] if given.peers == "-" else given.peers.split(",")
    if unknown := set(peers) - set(PEERS):
        parser.error(f"no peer is called {', '.join(sorted(unknown))}: there are {', '.join(PEERS)}")
    sizes, memories = (SHORT, min(given.memories, 1000)) if given.short else (FULL, given.memories)
    given.environments.mkdir(parents=True, exist_ok=True)
    return Wanted(peers, memories, sizes, given.latency_ms, given.environments), given.json


def main() -> None:
    """Compare once, and print."""
    wanted, file = _wanted()
    found = compare(wanted, say)
    publish(found, report(found), file)
    sys.exit(found.failed)


if __name__ == "__main__":
    main()
