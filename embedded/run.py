"""Running a stack in a data directory: what `memlane up`, `down` and `demo`, and the tests, call."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic, sleep

from memlane.config.settings import Settings, load_settings
from memlane.embedded.folder import Folder, Shape, StackState
from memlane.embedded.logview import LogView
from memlane.embedded.ports import in_use
from memlane.embedded.stack import Stack, plan
from memlane.embedded.supervisor import Report, Supervisor
from memlane.errors import Misconfigured
from memlane.tasks.embedders import check_embedder

__all__ = ["LogView", "running", "servers", "start_detached", "stop_detached"]

_DETACHED_S = 120.0
"""How long a detached stack may take to be ready."""


@dataclass(frozen=True, slots=True)
class Ports:
    """The ports that people use; 0 for any that is free."""

    gateway: int = 0
    flower: int = 0


def default_workers() -> int:
    """Processes that finish jobs: one for each core, and at least two, so that one may wait for the provider."""
    return max(2, min(8, os.cpu_count() or 2))


def shape_for(folder: Folder, asked: dict[str, int | str | None]) -> Shape:
    """The shape of a stack: as it was created, with what may change as asked for.

    Raises:
        Misconfigured: it was created with other nodes or shards.
    """
    given = {name: value for name, value in asked.items() if value is not None}
    before = folder.shape()
    if before is None:
        return Shape(**{"nodes": 1, "shards": 8, "workers": default_workers(), "embedder": "minilm", **given})  # type: ignore[arg-type]
    for name in ("nodes", "shards"):
        if name in given and given[name] != getattr(before, name):
            raise Misconfigured(
                f"the stack in {folder.path} was created with {getattr(before, name)} {name}, which is fixed; "
                f"choose another --data for {given[name]}"
            )
    return replace(before, **given)  # type: ignore[arg-type]


@contextmanager
def running(
    folder: Folder, asked: dict[str, int | str | None], ports: Ports, report: Report
) -> Iterator[tuple[Stack, Supervisor]]:
    """A stack that is ready, for the time of the block; everything is stopped after it.

    Args:
        folder: its data directory.
        asked: nodes, shards, workers and embedder, each None for what it was or the default.
        ports: of the gateway and of Flower.
        report: told what is being done.

    Raises:
        Misconfigured: somebody uses the directory or a port, or something did not start.
    """
    folder.check_whole()
    folder.prepare()
    with folder.locked():
        folder.drop_state()  # of one that was killed
        shape = shape_for(folder, asked)
        for option, port in (("--port", ports.gateway), ("--flower-port", ports.flower)):
            if port and in_use(port):
                raise Misconfigured(f"port {port} is in use: choose another with {option}, or 0 for any that is free")
        check_embedder(load_settings(embedder=shape.embedder))
        stack = plan(folder, shape, ports.gateway, ports.flower)
        supervisor = Supervisor(stack, report)
        supervisor.handle_signals()
        try:
            supervisor.start()
            folder.keep_shape(shape)
            yield stack, supervisor
        finally:
            report("stopping")
            supervisor.stop()


@contextmanager
def servers(folder: Folder, shape: Shape, report: Report) -> Iterator[Settings]:
    """The Postgres nodes alone of a new stack, for the time of the block; the directory is a stack's if it ends well.

    Raises:
        Misconfigured: the directory is not empty, or something did not start.
    """
    folder.check_whole()
    if folder.shape() is not None:
        raise Misconfigured(f"{folder.path} has a stack already: choose another --data")
    if folder.path.exists() and any(folder.path.iterdir()):
        raise Misconfigured(f"{folder.path} is not empty: a stack that is restored gets a directory of its own")
    folder.prepare()
    with folder.locked(), folder.half_made():
        stack = plan(folder, shape, 0, 0)
        supervisor = Supervisor(stack, report)
        try:
            supervisor.start_nodes()
            yield stack.settings()
            folder.keep_shape(shape)
        finally:
            supervisor.stop()


def start_detached(folder: Folder, arguments: list[str], told: Mapping[str, str] | None = None) -> StackState:
    """Start a stack in the background and wait until it is ready.

    Args:
        folder: its data directory.
        arguments: of `memlane up`, without --detach.
        told: added to its environment.

    Raises:
        Misconfigured: it did not start; the message has the end of its log.
    """
    folder.prepare()
    if folder.in_use():
        raise folder.occupied()
    log = folder.logs / "supervisor.log"
    with log.open("ab") as output:
        begin = output.tell()
        process = subprocess.Popen(
            [sys.executable, "-m", "memlane", "up", *arguments, "--quiet"],
            env={**os.environ, **(told or {})},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    deadline = monotonic() + _DETACHED_S
    while monotonic() < deadline:
        state = folder.state()
        if state is not None and state.ready and state.pid == process.pid:
            return state
        if process.poll() is not None:
            raise Misconfigured(_said(log, begin) or f"the stack ended with code {process.returncode}; see {log}")
        sleep(0.05)
    process.terminate()
    raise Misconfigured(f"the stack is not ready after {_DETACHED_S:.0f} s; see {log}")


def _said(log: Path, begin: int) -> str:
    """What a supervisor that ended has printed."""
    with log.open("rb") as file:
        file.seek(begin)
        return file.read().decode(errors="replace").strip().removeprefix("memlane: ")


def stop_detached(folder: Folder, timeout_s: float = 90.0) -> bool:
    """Stop the stack that runs in a directory, and wait until it is gone; False if none does.

    Raises:
        Misconfigured: it does not stop.
    """
    state = folder.running()
    if state is None:
        folder.drop_state()
        return False
    os.kill(state.pid, signal.SIGTERM)
    deadline = monotonic() + timeout_s
    while folder.in_use():
        if monotonic() > deadline:
            raise Misconfigured(f"the stack in {folder.path} (process {state.pid}) does not stop")
        sleep(0.05)
    return True
