"""Ours and a queue written by hand, in one run: the same machine, Postgres, Redis and provider.

    python -m memlane.bench.compare [--memories 20000] [--latency-ms 50] [--json]

It starts a stack of its own in a temporary directory, measures, and stops it.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memlane.admin import Admin
from memlane.bench.figures import Circumstances
from memlane.bench.ingest import IngestFigures, Load, bench_ingest
from memlane.bench.recall import RecallFigures, bench_recall
from memlane.contract import wire
from memlane.embedded.folder import Folder
from memlane.embedded.ports import free_port, in_use
from memlane.embedded.redis import uri
from memlane.embedded.run import start_detached, stop_detached

_DIMS = 384


@dataclass(frozen=True, slots=True)
class Comparison:
    """Figures of one run.

    Attributes:
        ingest: ours, from batches of 100.
        single: ours, one by one on an idle system; accept_ms is what a lone caller waits.
        peer: what the queue written by hand has reached.
        ratio: ours to the peer's, searchable memories per second.
        recall: ours, by agent size.
    """

    ingest: IngestFigures
    single: IngestFigures
    peer: dict[str, Any]
    ratio: float
    recall: list[RecallFigures]
    circumstances: Circumstances


def compare(memories: int, latency_ms: float) -> Comparison:
    """Measure ours and the peer's, one after the other."""
    folder = Folder(Path(tempfile.mkdtemp(prefix="memlane-bench-")))
    folder.path.chmod(0o711)
    with _provider(latency_ms) as provider:
        arguments = ["--data", str(folder.path), "--port", "0", "--embedder", "openai", "--workers", "4"]
        told = {"MEMLANE_OPENAI_BASE_URL": f"{provider}/v1", "MEMLANE_OPENAI_DIMS": str(_DIMS)}
        state = start_detached(folder, arguments, told)
        secrets = folder.secrets()
        admin = Admin(state.url, secrets.admin_key)
        try:
            key = secrets.tenant_key
            single = bench_ingest(state.url, key, admin, Load(200, 100, 1, 1, provider, idle=True), _ignore)
            ingest = bench_ingest(state.url, key, admin, Load(memories, 100, 100, 4, provider), _ignore)
            recall = bench_recall(state.url, key, admin, [100, 1000, 10_000], 100, _ignore)
            peer = _peer(folder, state.nodes["node-1"], state.redis, f"{provider}/v1")
        finally:
            admin.close()
            stop_detached(folder)
            shutil.rmtree(folder.path, ignore_errors=True)
    ratio = round(ingest.searchable_per_s / peer["searchable_per_s"], 1)
    return Comparison(ingest, single, peer, ratio, list(recall.sizes), ingest.circumstances)


def _ignore(_count: int) -> None:
    """Nobody looks at the progress."""


def _peer(folder: Folder, postgres: str, redis: str, provider: str) -> dict[str, Any]:
    secrets = folder.secrets()
    command = [
        *(sys.executable, "-m", "memlane.bench.peers.naive_celery", "--provider", provider),
        *("--postgres", f"postgresql://memlane:{secrets.postgres}@{postgres}/postgres"),
        *("--broker", uri(redis, secrets.redis, 5)),
    ]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


@contextmanager
def _provider(latency_ms: float) -> Iterator[str]:
    port = free_port()
    command = [sys.executable, "-m", "memlane.bench.provider", "--port", str(port), "--latency-ms", str(latency_ms)]
    process = subprocess.Popen([*command, "--dims", str(_DIMS)])
    while not in_use(port):
        if process.poll() is not None:
            raise RuntimeError("the provider did not start")
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


def main() -> None:
    """Compare once, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--memories", type=int, default=20_000)
    parser.add_argument("--latency-ms", type=float, default=50)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    found = compare(given.memories, given.latency_ms)
    if given.json:
        sys.stdout.buffer.write(wire.dump(found) + b"\n")
        return
    lines = [
        f"searchable from batches of 100   {found.ingest.searchable_per_s:8.0f} memories/s",
        f"accepted from batches of 100     {found.ingest.accepted_per_s:8.0f} memories/s",
        f"one remember over HTTP, accepted {found.single.accept_ms.p50:8.1f} ms (median, idle)",
        f"... and searchable               {found.single.searchable_ms.p50:8.1f} ms (median)",
        f"naive Celery, {found.peer['processes']} processes        {found.peer['searchable_per_s']:8.0f} memories/s",
        f"ratio                            {found.ratio:8.1f}",
        *(
            f"recall, agent of {size.memories:<6} memories  {size.beside_ms.p50:8.1f} ms (median, beside the embedding)"
            for size in found.recall
        ),
        f"{found.circumstances.machine}; provider {given.latency_ms:g} ms; {found.circumstances.at:%Y-%m-%d}",
        ", ".join(f"{name} {value}" for name, value in found.circumstances.durability.items()),
    ]
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
