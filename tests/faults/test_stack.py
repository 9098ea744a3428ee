"""An embedded stack whose supervisor is killed under load, twice: it takes all with it, and all goes on after `up`."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from time import monotonic

import psutil
import pytest
from psycopg.conninfo import make_conninfo

from memlane.config.settings import load_settings
from memlane.embedded.folder import Folder
from memlane.embedded.ports import free_port
from memlane.embedded.postgres import uri
from memlane.embedded.redis import uri as redis_uri
from memlane.embedded.stack import TENANT
from memlane.storage.models import table_name
from memlane.tasks.embedders import model_of
from memlane.tasks.embedders.hash import HashEmbedder
from tests.faults.count import Servers, count
from tests.faults.load import load
from tests.faults.notes import Notes
from tests.faults.round import rest
from tests.support import eventually

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]

SHORT = {"MEMLANE_LEASE_S": "3", "MEMLANE_STATEMENT_TIMEOUT_S": "2", "MEMLANE_SWEEP_EVERY_S": "1"}


def memlane(folder: Path, *arguments: str) -> str:
    """What a command prints."""
    env = {"PATH": os.environ["PATH"], "HOME": str(folder), "MEMLANE_DATA": str(folder / "data"), **SHORT}
    env |= {name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ}
    done = subprocess.run(
        [sys.executable, "-m", "memlane", *arguments], env=env, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, f"{arguments}: {done.stdout}\n{done.stderr}"
    return done.stdout


def up(folder: Path, port: int) -> Folder:
    """Start the stack in the background."""
    memlane(folder, "up", "--detach", "--embedder", "hash", "--port", str(port), "--workers", "2", "--nodes", "2")
    return Folder(folder / "data")


@pytest.fixture
def port(process_folder: Path) -> Iterator[int]:
    """Where the gateway of a stack listens, each time; the stack is stopped with the test."""
    yield free_port()
    memlane(process_folder, "down")


def servers(folder: Folder) -> Servers:
    """Where the rows of a stack are."""
    state, secrets = folder.state(), folder.secrets()
    assert state is not None
    at = {name: uri(address, secrets.postgres) for name, address in state.nodes.items()}
    model = model_of(load_settings(embedder="hash"))
    embedder = HashEmbedder(model)
    return Servers(
        {name: make_conninfo(node, connect_timeout=2) for name, node in at.items()},
        redis_uri(state.redis, secrets.redis),
        table_name(model.name),
        lambda text: embedder.embed([text]).vectors[0],
    )


def kill_supervisor(folder: Folder) -> None:
    """As the kernel's OOM killer would, and wait until nothing is left of the stack."""
    state = folder.state()
    assert state is not None
    found = [psutil.Process(state.pid), *psutil.Process(state.pid).children(recursive=True)]
    os.kill(state.pid, signal.SIGKILL)
    eventually(lambda: not any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in found), 60)


def wait_for_more(notes: Notes) -> None:
    """Wait until some more memories were handed over."""
    before = len(notes)
    eventually(lambda: len(notes) > before + 60, 60)


def test_a_supervisor_that_is_killed_under_load_loses_nothing(process_folder: Path, port: int) -> None:
    stack = up(process_folder, port)
    key = stack.secrets().tenant_key
    with load(f"http://127.0.0.1:{port}", key, "s", 7, TENANT) as notes:
        for _ in range(2):
            wait_for_more(notes)
            kill_supervisor(stack)
            up(process_folder, port)
        wait_for_more(notes)
    rest(servers(stack), monotonic())
    assert count(servers(stack), notes, "s").wrong == []
