"""Outages of a node of a stack that is measured: killed and kept from starting again, or hung."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from time import sleep

import psutil
import psycopg
from psycopg.conninfo import make_conninfo

from memlane.bench.servers import Servers
from memlane.embedded.postgres import uri


@contextmanager
def killed(here: Servers, node: str) -> Iterator[None]:
    """The server is killed with SIGKILL, and cannot be started again before the end of the block."""
    data = here.folder.path / node / "data"
    away = data.with_name("away")
    pid = _pid(here, node)
    data.rename(away)
    os.kill(pid, signal.SIGKILL)
    try:
        yield
    finally:
        away.rename(data)


@contextmanager
def hung(here: Servers, node: str) -> Iterator[None]:
    """All processes of the server stand still: connections are taken by the kernel, and nothing is ever answered."""
    stopped: list[psutil.Process] = []
    _signal(server := psutil.Process(_pid(here, node)), signal.SIGSTOP, stopped)  # it starts no child any more
    for child in server.children(recursive=True):
        _signal(child, signal.SIGSTOP, stopped)
    try:
        yield
    finally:
        for process in reversed(stopped):
            _signal(process, signal.SIGCONT, [])


def wait_until_up(here: Servers, node: str) -> None:
    """Wait until a node answers, without asking through any of our processes."""
    address = make_conninfo(uri(here.state.nodes[node], here.secrets.postgres), connect_timeout=2)
    while True:
        with suppress(psycopg.OperationalError), psycopg.connect(address):
            return
        sleep(0.05)


def _signal(process: psutil.Process, number: int, done: list[psutil.Process]) -> None:
    with suppress(psutil.NoSuchProcess):
        process.send_signal(number)
        done.append(process)


def _pid(here: Servers, node: str) -> int:
    """Of the server, as the supervisor knows it now."""
    state = here.folder.state()
    assert state is not None, "the stack runs"
    return next(process.pid for process in state.processes if process.name == node)
