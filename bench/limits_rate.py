"""How closely several processes together keep to what a provider lets through in a minute.

    python -m memlane.bench.limits_rate [--seconds 300] [--json FILE]

It starts a provider that counts the requests of the last 60 seconds, and four processes that ask it as often as the
pace which they share lets them.
"""

import argparse
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.synchronize import Barrier
from pathlib import Path
from time import monotonic

import httpx

from memlane.bench.output import publish, say
from memlane.bench.servers import DIMS, provider
from memlane.bench.texts import fresh_texts
from memlane.config.settings import Settings, load_settings
from memlane.embedded.ports import free_port
from memlane.embedded.process import spawn
from memlane.embedded.redis import Redis
from memlane.errors import ProviderRefused, RateRefused
from memlane.tasks.embedders import make_embedder
from memlane.tasks.pace import make_pace

MOST_REFUSED = 0.01
"""The largest share of its answers that may be 429."""
LEAST_USED = 0.95
"""The least share of the limit that should be used."""

_RPM = 60
_PROCESSES = 4
_LATENCY_MS = 50.0


@dataclass(frozen=True, slots=True)
class Rate:
    """What a provider with a limit was asked, and what it answered.

    Attributes:
        rpm: requests that it lets through in a minute.
        processes: that asked it.
        seconds: for how long.
        sent: requests.
        refused: of them, with 429.
        refused_share: of what was sent.
        used_share: what was answered, of what the limit lets through in that time.
    """

    rpm: int
    processes: int
    seconds: float
    sent: int
    refused: int
    refused_share: float
    used_share: float

    @property
    def kept(self) -> bool:
        """Whether both targets were met."""
        return self.refused_share <= MOST_REFUSED and self.used_share >= LEAST_USED


def measure(seconds: float, progress: Callable[[str], None]) -> Rate:
    """Ask for so long."""
    with _redis() as redis_url, provider(_LATENCY_MS, "--rpm", str(_RPM)) as (url, _):
        settings = load_settings(
            embedder="openai",
            openai_base_url=f"{url}/v1",
            openai_dims=DIMS,
            redis_url=redis_url,
            provider_rpm=_RPM,
            provider_share=_PROCESSES,
        )
        progress(f"{_PROCESSES} processes ask for {seconds:.0f} s")
        _ask_together(settings, seconds)
        stats = httpx.get(f"{url}/stats").raise_for_status().json()
    answered, refused = stats["requests"], stats["rejected"]
    return Rate(
        rpm=_RPM,
        processes=_PROCESSES,
        seconds=seconds,
        sent=answered + refused,
        refused=refused,
        refused_share=round(refused / max(1, answered + refused), 4),
        used_share=round(answered / (_RPM * seconds / 60), 4),
    )


@contextmanager
def _redis() -> Iterator[str]:
    folder = Path(tempfile.mkdtemp(prefix="memlane-bench-"))
    server = Redis(folder, free_port(), "bench")
    server.prepare()
    process = spawn(server.command(), folder / "log")
    try:
        server.wait(process)
        yield server.uri()
    finally:
        process.terminate()
        process.wait(30)
        shutil.rmtree(folder, ignore_errors=True)


def _ask_together(settings: Settings, seconds: float) -> None:
    """All begin when the last one is ready.

    Raises:
        RuntimeError: one of them broke.
    """
    context = get_context("spawn")
    ready = context.Barrier(_PROCESSES)
    processes = [context.Process(target=_ask, args=(settings, seconds, ready, seed)) for seed in range(_PROCESSES)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    if any(process.exitcode for process in processes):
        raise RuntimeError("a process that asks ended with an error")


def _ask(settings: Settings, seconds: float, ready: Barrier, seed: int) -> None:
    embedder, pace, texts = make_embedder(settings), make_pace(settings), fresh_texts(seed)
    ready.wait(120)
    until = monotonic() + seconds
    while (left := until - monotonic()) > 0:
        text = next(texts)
        try:
            turn = pace.turn(sum(embedder.count([text])), left)
        except RateRefused:
            return
        try:
            turn.used(embedder.embed([text]).tokens)
        except RateRefused as refusal:
            turn.refused(refusal.retry_after_s)
        except ProviderRefused as refusal:
            turn.used(refusal.tokens)


def report(found: Rate) -> str:
    """The figures, for people."""
    return (
        f"{found.processes} processes and a provider that takes {found.rpm} requests a minute, for "
        f"{found.seconds:.0f} s: {found.sent} requests sent, {found.refused} answered 429 "
        f"({found.refused_share:.1%}; target: at most {MOST_REFUSED:.0%}), {found.used_share:.1%} of the limit used "
        f"(target: at least {LEAST_USED:.0%}).\n"
    )


def main() -> None:
    """Measure once, and print; the exit code is 1 if a target was missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write one JSON document as well")
    given = parser.parse_args()
    found = measure(given.seconds, say)
    publish(found, report(found), given.json)
    sys.exit(not found.kept)


if __name__ == "__main__":
    main()
