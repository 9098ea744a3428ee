"""Where the time goes: the steps of one remember and one recall, and flame graphs under load, written into the docs.

    python -m memlane.bench.explain [--docs docs] [--short]

It starts a stack of its own. py-spy has to be allowed to look at its processes: as root, or where ptrace is.
"""

import argparse
import asyncio
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import psutil

from memlane.admin import Admin
from memlane.bench import blocks, flames
from memlane.bench.beside import ingesting
from memlane.bench.figures import circumstances
from memlane.bench.flames import Flames
from memlane.bench.output import say, told
from memlane.bench.profile_recall import profile_recall
from memlane.bench.profile_remember import profile_remember
from memlane.bench.recall import agent_of, bench_recall
from memlane.bench.servers import DIMS, Servers, servers
from memlane.bench.steps import Profile
from memlane.bench.table import table
from memlane.config.logging import configure_logging
from memlane.config.settings import Settings, load_settings
from memlane.contract import MemoryItem, RecallRequest
from memlane.embedded.stack import TENANT

_SIZE = 1_000
_RUNS = 50
_FRAMES = 14
_LATENCY_MS = 50.0
_COMMAND = "python -m memlane.bench.explain"


def explain(docs: Path, seconds: float) -> None:
    """Measure, and write it into the page and the pictures of a docs folder."""
    with servers(_LATENCY_MS) as here, closing(Admin(here.url, here.secrets.admin_key)) as admin:
        say(f"an agent with {_SIZE:,} memories")
        bench_recall(here.url, here.secrets.tenant_key, admin, [_SIZE], 10, lambda _: None)
        here.settle()
        say("profiles")
        profiles = _profiles(_settings(here))
        say("flame graphs")
        burning = _burning(here, seconds)
        rests_on = told(circumstances(admin.status()), here.versions())
    (docs / "assets").mkdir(exist_ok=True)
    for name, found in burning.items():
        (docs / "assets" / f"{name}.svg").write_text(flames.drawing(found))
    parts = [f"`{_COMMAND}`:", "\n".join(rests_on)]
    parts += [part for profile in profiles for part in _profile(profile)]
    parts += [part for name, found in burning.items() for part in _flames(name, found)]
    blocks.write(docs / "explanation" / "performance.md", "where the time goes", "\n\n".join(parts))


def _settings(here: Servers) -> Settings:
    return load_settings(
        nodes={"node-1": here.postgres("memlane")},
        broker_url=here.redis(0),
        redis_url=here.redis(1),
        embedder="openai",
        openai_base_url=f"{here.provider}/v1",
        openai_api_key="bench",
        openai_dims=DIMS,
        log_level="ERROR",
    )


def _profiles(settings: Settings) -> list[Profile]:
    item = MemoryItem(agent=agent_of(_SIZE), content="Ada spoke of a lighthouse, a cello and the weather at the lake")
    asked = RecallRequest(agent=agent_of(_SIZE), query="What did Ada say of the lighthouse?")
    return [
        profile_remember(settings, TENANT, item, _RUNS, plans=False),
        asyncio.run(profile_recall(settings, TENANT, asked, _RUNS, plans=False)),
    ]


def _burning(here: Servers, seconds: float) -> dict[str, Flames]:
    """Samples of the gateway and of the workers that drain, while batches of 100 come as fast as they can."""
    pids = {process.name: process.pid for process in here.state.processes}
    drains = [child.pid for child in psutil.Process(pids["worker-ingest"]).children(recursive=True)]
    with ingesting(here):
        gateway = flames.record("gateway, under ingest", [pids["gateway"]], seconds)
        workers = flames.record("workers that drain, under ingest", drains, seconds)
    return {"flames-gateway": gateway, "flames-workers": workers}


def _profile(found: Profile) -> Sequence[str]:
    rows = [
        (
            step.stage,
            step.step,
            "-" if step.median_ms is None else f"{step.median_ms:.2f}",
            "-" if step.p95_ms is None else f"{step.p95_ms:.2f}",
            str(step.round_trips or ""),
        )
        for step in found.steps
    ]
    rows.append(("whole", "", f"{found.median_ms:.2f}", f"{found.p95_ms:.2f}", str(found.round_trips)))
    return [
        f"One {found.operation}, of an agent with {_SIZE:,} memories, {found.runs} runs:",
        table(("stage", "step", "median, ms", "p95, ms", "round trips"), rows),
        "\n".join(f"- {note}" for note in found.notes),
    ]


def _flames(name: str, found: Flames) -> Sequence[str]:
    rows = [(f"`{frame}`", f"{share:.0%}") for frame, share in found.top(_FRAMES, "(memlane")]
    return [
        f"![{found.name}](../assets/{name}.svg)",
        f"Of {found.samples:,} samples of the {found.name}, of what holds the GIL alone, with all that it calls:",
        table(("frame", "share"), rows),
    ]


def main() -> None:
    """Explain once."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--docs", type=Path, default=Path("docs"), help="the folder of the docs")
    parser.add_argument("--short", action="store_true", help="to see that it works")
    given = parser.parse_args()
    configure_logging(load_settings(nodes={"none": "postgresql://none"}, log_level="ERROR"))
    explain(given.docs, 2.0 if given.short else 15.0)


if __name__ == "__main__":
    main()
