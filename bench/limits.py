"""Whether budgets and limits hold, how fair the shares are, and what all that costs.

    python -m memlane.bench.limits [--seconds 300] [--short] [--json FILE]

It starts a stack in a temporary directory, and races, rates and shares beside it.
"""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from memlane.admin import Admin
from memlane.bench import limits_fairness, limits_money, limits_rate
from memlane.bench.figures import Circumstances, circumstances
from memlane.bench.limits_fairness import Fairness
from memlane.bench.limits_money import KILLED, Asking, Race, Share
from memlane.bench.limits_rate import Rate
from memlane.bench.output import publish, say, told
from memlane.bench.servers import servers
from memlane.config.logging import configure_logging
from memlane.config.settings import load_settings
from memlane.storage.migrator import migrate
from memlane.tasks.embedders import model_of

RESERVE_MS, SHARE_PERCENT = 1.0, 3.0
"""What a reservation may take at the median, and asking of the CPU seconds of an ingest run."""


@dataclass(frozen=True, slots=True)
class Limits:
    """All figures, and what they rest on."""

    races: Sequence[Race]
    asking: Asking
    share: Share
    rate: Rate
    fairness: Fairness
    circumstances: Circumstances
    versions: Mapping[str, str]

    @property
    def good(self) -> bool:
        """Whether what must hold does; how fast that is depends on the machine."""
        return all(race.holds for race in self.races) and self.rate.kept and self.fairness.kept


def measure(seconds: float, *, short: bool, progress: Callable[[str], None]) -> Limits:
    """Measure all of it."""
    with servers(50) as here, closing(Admin(here.url, here.secrets.admin_key)) as admin:
        with here.database("limits") as uri:
            cluster = load_settings(nodes={"node-1": uri}, shard_count=1, embedder="hash", log_level="ERROR")
            configure_logging(cluster)
            migrate(cluster, model_of(cluster))
            asking = limits_money.asking(cluster, 200 if short else 2000)
            progress(f"a reservation takes {asking.reserve_ms.p50} ms")
            races = [limits_money.race(cluster, killed=killed) for killed in (0, KILLED)]
            progress(f"races: {', '.join(str(race.granted) for race in races)} granted")
        share = limits_money.share(here, 2_000 if short else 20_000, asking)
        progress(f"asking is {share.percent} % of the CPU seconds of an ingest run")
        here_and_now = circumstances(admin.status()), here.versions()
    rate = limits_rate.measure(seconds, progress)
    fairness = limits_fairness.measure(*((5_000, 3) if short else (100_000, 20)), progress)
    return Limits(races, asking, share, rate, fairness, *here_and_now)


def report(found: Limits) -> str:
    """Everything, for people, in Markdown."""
    races = [
        f"| {race.contenders} in {race.processes} | {race.killed} | {race.granted} | {race.deferred} "
        f"| {race.highest:.2%} | {race.looks:,} | {race.charged:.2%} |"
        for race in found.races
    ]
    lines = [
        f"Contenders for a cent each of a budget of a dollar; in the second race {KILLED} of the processes are killed:",
        "",
        "| contenders, in processes | killed | granted | deferred | most settled and set aside | looks | charged |",
        "| ------------------------ | ------ | ------- | -------- | -------------------------- | ----- | ------- |",
        *races,
        "",
        _asking(found.asking, found.share),
        "",
        limits_rate.report(found.rate),
        limits_fairness.report(found.fairness),
        *told(found.circumstances, found.versions),
    ]
    return "\n".join(lines) + "\n"


def _asking(asking: Asking, share: Share) -> str:
    return (
        f"Setting aside for a batch of 256 texts of 16 agents: {asking.reserve_ms.p50} ms at the median, "
        f"{asking.reserve_ms.p99} at p99 (target {RESERVE_MS:g} at the median); settling {asking.settle_ms.p50} and "
        f"{asking.settle_ms.p99}. Both together are {asking.cpu_ms} ms of CPU, in our process and in Postgres: in an "
        f"ingest run of {share.memories:,} memories with {share.calls} calls {share.percent} % of its {share.cpu_s} "
        f"CPU seconds (target {SHARE_PERCENT:g} %)."
    )


def main() -> None:
    """Measure once, and print; the exit code is 1 if a limit did not hold."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=300.0, help="how long the provider's limit is kept to")
    parser.add_argument("--short", action="store_true", help="a minute, to see that it works")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write one JSON document as well")
    given = parser.parse_args()
    found = measure(given.seconds, short=given.short, progress=say)
    publish(found, report(found), given.json)
    sys.exit(not found.good)


if __name__ == "__main__":
    main()
