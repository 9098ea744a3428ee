"""Standbys: nothing that was confirmed is lost with a primary, and nothing is confirmed that one server alone has."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from time import monotonic, sleep

import psutil
import psycopg
import pytest

from memlane import Client
from memlane.admin import Admin
from memlane.contract import Recalled
from memlane.contract.status import NodeStatus, Role
from memlane.embedded import failover, replication
from memlane.embedded.folder import Folder
from memlane.embedded.group import Group
from memlane.embedded.postgres import Postgres
from memlane.errors import MemlaneError, Unavailable
from tests.commands import Run, document
from tests.support import eventually

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]

NODE = "node-1"

Up = Callable[..., Folder]


@pytest.fixture
def up(run: Run, process_folder: Path) -> Iterator[Up]:
    """Starts a stack whose node has standbys."""

    def start(standbys: int, *more: str) -> Folder:
        run("up", "--detach", "--embedder", "hash", "--port", "0", "--workers", "2", "--standbys", str(standbys), *more)
        return Folder(process_folder / "data")

    yield start
    run("down", code=None)


def client_of(folder: Folder, **options: float) -> Client:
    state = folder.state()
    assert state is not None
    return Client(state.url, folder.secrets().tenant_key, **options)  # type: ignore[arg-type]


def nodes(folder: Folder) -> NodeStatus:
    """The one node as the gateway sees it."""
    state = folder.state()
    assert state is not None
    admin = Admin(state.url, folder.secrets().admin_key)
    try:
        (found,) = admin.nodes()
    finally:
        admin.close()
    return found


def roles(folder: Folder) -> list[Role]:
    return sorted(member.role for member in nodes(folder).members)


def pid_of(server: Postgres) -> int:
    return int((server.data / "postmaster.pid").read_text().split()[0])


@contextmanager
def standing_still(*servers: Postgres) -> Iterator[None]:
    """All processes of these servers are stopped."""
    found = [psutil.Process(pid_of(server)) for server in servers]
    every = [process for main in found for process in (main, *main.children(recursive=True))]
    for process in every:
        process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for process in every:
            if process.is_running():
                process.send_signal(signal.SIGCONT)


def stored(group: Group) -> list[str]:
    """Every content on a node's primary, by SQL of the test's own."""
    with psycopg.connect(group.uri(), autocommit=True) as connection:
        schemas = connection.execute("SELECT nspname FROM pg_namespace WHERE nspname ~ '^shard_'").fetchall()
        return [
            content
            for (schema,) in schemas
            for (content,) in connection.execute(f"SELECT content FROM {schema}.memories".encode())
        ]


class Writer:
    """Hands memories over, one after the other, and notes each receipt and when it came."""

    def __init__(self, folder: Folder) -> None:
        self.receipts: dict[str, float] = {}
        self._client = client_of(folder)
        self._stop = Event()
        self._thread = Thread(target=self._write, daemon=True)
        self._thread.start()

    def _write(self) -> None:
        number = 0
        while not self._stop.is_set():
            number += 1
            content = f"memory {number}"
            try:
                self._client.remember("ada", content, key=f"k{number}")
            except MemlaneError:
                continue
            self.receipts[content] = monotonic()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(60)
        self._client.close()


def lose_disk(server: Postgres) -> None:
    """kill -9, and its data is gone: it cannot be started again."""
    pid = pid_of(server)
    server.data.rename(server.folder / "lost")
    os.kill(pid, signal.SIGKILL)


def test_a_primary_is_lost_with_its_disk(up: Up, run: Run) -> None:
    folder = up(2)
    eventually(lambda: roles(folder) == [Role.PRIMARY, Role.STANDBY, Role.STANDBY], 60)
    with client_of(folder) as client:
        client.remember("bob", "the one before").wait("searchable")
    writer = Writer(folder)
    eventually(lambda: len(writer.receipts) > 50, 60)
    group = failover.group_of(folder, NODE)
    lose_disk(group.primary)
    with client_of(folder) as client:
        found = recalled_from_a_standby(client)
        assert [hit.memory.content for hit in found.hits] == ["the one before"]
    before = len(writer.receipts)
    done = document(run("nodes", "promote", NODE, "--json"))
    assert done["former"] == "node-1"
    eventually(lambda: len(writer.receipts) > before + 20, 30)
    assert "is no standby" in run("nodes", "promote", NODE, "--server", "node-1", code=1).stderr
    run("nodes", "rejoin", NODE)  # there is nothing to be rewound: it is made anew
    eventually(lambda: roles(folder) == [Role.PRIMARY, Role.STANDBY, Role.STANDBY], 60)
    writer.stop()
    run("nodes")
    with client_of(folder) as client:
        client.remember("ada", "the last").wait("searchable", timeout=60)
        eventually(lambda: client.ledger().open == 0, 60)
        assert client.ledger().balanced
    contents = stored(failover.group_of(folder, NODE))
    assert len(contents) == len(set(contents))
    assert set(writer.receipts) <= set(contents)
    run("down")
    run("up", "--detach", "--port", "0")  # the line-up is remembered
    assert failover.group_of(folder, NODE).primary.name == done["primary"]
    assert set(stored(failover.group_of(folder, NODE))) == {*contents}


def recalled_from_a_standby(client: Client) -> Recalled:
    """A recall while there is no primary; it says so."""
    deadline = monotonic() + 30
    while True:
        assert monotonic() < deadline
        try:
            found = client.recall("bob", "the one before")
        except Unavailable:
            continue
        if any("standby" in note for note in found.degraded):
            return found
        sleep(0.05)


def test_a_killed_primary_is_rewound_when_it_rejoins(up: Up, run: Run) -> None:
    folder = up(1)
    with client_of(folder) as client:
        client.remember("ada", "tea").wait("stored")
        group = failover.group_of(folder, NODE)
        os.kill(pid_of(group.primary), signal.SIGKILL)
        run("nodes", "promote", NODE)
        # Nobody is left to confirm anything; recall does not mind.
        eventually(lambda: [hit.memory.content for hit in client.recall("ada", "tea").hits] == ["tea"], 30)
        done = run("nodes", "rejoin", NODE)
        assert "made anew" not in done.stderr
        client.remember("ada", "coffee")
        eventually(lambda: sorted(stored(failover.group_of(folder, NODE))) == ["coffee", "tea"], 60)
        assert "no server of node-1 is out" in run("nodes", "rejoin", NODE, code=1).stderr


def test_durability_refuses_while_nobody_confirms(up: Up) -> None:
    folder = up(1, "--replication", "durability")
    group = failover.group_of(folder, NODE)
    with client_of(folder, retries=0) as client, client_of(folder, retries=40) as patient:
        client.remember("ada", "tea", key="1").wait("searchable")
        with standing_still(*group.standbys):
            begun = monotonic()
            with pytest.raises(Unavailable):
                client.remember("ada", "coffee", key="2")
            assert monotonic() - begun < 30
            eventually(lambda: bool(client.recall("ada", "tea").hits), 30)  # who reads is not held up
            begun = monotonic()
            for _ in range(3):
                with pytest.raises(Unavailable):
                    client.remember("ada", "coffee", key="2")
            assert monotonic() - begun < 30
        receipt = patient.remember("ada", "coffee", key="2")
        receipt.wait("searchable", timeout=60)
        assert sorted(stored(group)) == ["coffee", "tea"]
        eventually(lambda: patient.ledger().balanced, 30)


def test_availability_goes_on_with_an_alarm(up: Up, run: Run) -> None:
    folder = up(1, "--replication", "availability")
    group = failover.group_of(folder, NODE)
    with client_of(folder) as client, standing_still(*group.standbys):
        eventually(lambda: replication.seen(group.primary).confirmed_by == "", 60)
        client.remember("ada", "tea", key="1").wait("searchable", timeout=60)
        assert "NOT REPLICATED" in run("nodes", code=1).stdout
        assert "replication.too_few_standbys" in (folder.logs / "supervisor.log").read_text()
    eventually(lambda: replication.seen(group.primary).confirmed_by != "", 60)
    eventually(lambda: nodes(folder).alarm is None, 60)


def test_a_primary_whose_disk_was_lost_while_nothing_ran(up: Up, run: Run) -> None:
    folder = up(2)
    with client_of(folder) as client:
        client.remember("ada", "tea").wait("searchable")
    group = failover.group_of(folder, NODE)
    with standing_still(group.standbys[0]):
        refused = run("nodes", "promote", NODE, code=1).stderr
        assert f"{group.standbys[0].name} does not answer" in refused
    assert failover.group_of(folder, NODE).lineup == group.lineup
    run("down")
    group.primary.data.rename(group.primary.folder / "lost")
    refused = run("up", "--detach", "--port", "0", code=1).stderr
    assert "the data of node-1, the primary, is gone" in refused
    assert "takes its place when the stack starts" in run("nodes", "promote", NODE).stdout
    run("up", "--detach", "--port", "0")
    assert stored(failover.group_of(folder, NODE)) == ["tea"]
    run("nodes", "rejoin", NODE)
    eventually(lambda: roles(folder) == [Role.PRIMARY, Role.STANDBY, Role.STANDBY], 60)
