"""A peer's process: its own Python, in an environment of its own, told its task and heard until its last line."""

import json
import os
import signal
import subprocess
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from threading import Timer
from typing import Any

import memlane.bench.peers
from memlane.bench.environments import NotMade, environment
from memlane.bench.output import Progress
from memlane.bench.servers import DIMS, Servers
from memlane.bench.systems import Measured, Sizes, System, system
from memlane.contract import wire

_FILES = Path(memlane.bench.peers.__file__).parent
_PATIENCE_S = 1800

PEERS = ("mem0", "langgraph", "naive_celery")
"""Each is a file in bench/peers/, with a lock file beside it."""


def measure_peer(name: str, servers: Servers, sizes: Sizes, home: Path, progress: Progress) -> System:
    """What a peer reaches, in a database of its own; one that cannot be installed or breaks is a failed one.

    Args:
        name: one of PEERS.
        servers: the same for all.
        sizes: how much is asked of it.
        home: the folder of the environments.
        progress: told each line of it.
    """
    try:
        progress(f"{name}: its environment")
        python = environment(_FILES / f"{name}.lock", home)
    except NotMade as error:
        return system(name, Measured(failed=str(error)))
    with servers.database(f"bench_{name}") as postgres:
        kinds = {pid: kind for pid, kind in servers.kinds.items() if kind in ("Postgres", "Redis", "provider")}
        where = {"postgres": postgres, "provider": servers.provider, "broker": servers.broker}
        task = {**where, "kinds": kinds, "dims": DIMS}
        return system(name, _run(name, python, task | asdict(sizes), home / f"{name}.log", progress))


def _run(name: str, python: Path, task: dict[str, Any], log: Path, progress: Progress) -> Measured:
    with log.open("wb") as errors:
        process = subprocess.Popen(
            [str(python), "-I", str(_FILES / "measure.py"), str(_FILES / f"{name}.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,
        )
    late = Timer(_PATIENCE_S, _end, (process,))
    late.start()
    try:
        return _heard(name, process, task, progress) or Measured(failed=_last_words(process, log))
    finally:
        late.cancel()
        _end(process)


def _heard(name: str, process: "subprocess.Popen[str]", task: dict[str, Any], progress: Progress) -> Measured | None:
    """The document that the process prints; its other lines are progress."""
    assert process.stdin is not None
    assert process.stdout is not None
    with process.stdin as stdin:
        stdin.write(json.dumps(task))
    found = None
    for line in process.stdout:
        if line.startswith('{"'):
            found = wire.load(Measured, line)
        elif line.strip():
            progress(f"{name}: {line.strip()}")
    return found


def _last_words(process: "subprocess.Popen[str]", log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return f"ended with code {process.wait()}: {lines[-1] if lines else 'without a word'}"


def _end(process: "subprocess.Popen[str]") -> None:
    """End it with all that it has started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
