"""The three servers of a node in Compose, by their own entry script: copied, confirming, promoted, brought back."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import psutil
import psycopg
import pytest

from tests import compose
from tests.servers import Servers, following, names_of
from tests.support import eventually

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(600)]

NODE = names_of("node-1")
FIRST, B, C = NODE
PROMOTE = "/memlane/promote.sh"


@pytest.fixture
def node(server_folder: Path) -> Iterator[Servers]:
    """The servers of a node, none of which runs."""
    folder = server_folder / "servers"
    folder.mkdir(mode=0o711)
    compose.make_secrets(folder / "secrets")
    servers = Servers(compose.read(), folder, folder / "secrets")
    yield servers
    servers.teardown()
    shutil.rmtree(folder)


@pytest.fixture
def made(node: Servers) -> Servers:
    """A node as Compose starts it, all servers at once."""
    node.start(*reversed(NODE))
    node.await_healthy(*NODE)
    eventually(lambda: node.states(*NODE) == following(B, C), 60)
    return node


def write(node: Servers, number: int) -> None:
    with node.connect(*NODE) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS written (number int)")
        connection.execute("INSERT INTO written VALUES (%s)", (number,))


def written(node: Servers) -> list[object]:
    with node.connect(*NODE) as connection:
        return [number for (number,) in connection.execute("SELECT number FROM written ORDER BY 1")]


def waiting(node: Servers) -> int:
    """How many commits wait for a standby."""
    with node.connect(FIRST) as connection:
        row = connection.execute("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'").fetchone()
    assert row is not None
    return int(str(row[0]))


def test_a_commit_waits_for_a_standby(made: Servers) -> None:
    no_password_is_told(made)
    write(made, 1)
    made.stop(B)
    write(made, 2)  # the other one is enough
    made.stop(C)
    late = Thread(target=write, args=(made, 3), daemon=True)
    late.start()
    eventually(lambda: waiting(made) == 1, 30)
    made.start(C)
    late.join(60)
    assert not late.is_alive()
    assert written(made) == [1, 2, 3]


def no_password_is_told(node: Servers) -> None:
    """Neither to those who list processes, nor do standbys get in without."""
    passwords = [path.read_text().strip() for path in node.secrets.glob("postgres_*")]
    assert len(passwords) == 5
    for server in node.running.values():
        main = psutil.Process(server.pid)
        for process in (main, *main.children(recursive=True)):
            listed = " ".join(process.cmdline())
            assert not [password for password in passwords if password in listed]
        assert not [password for password in passwords if password in server.logs()]
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(f"postgresql://memlane_standby:x@127.0.0.1:{node.port(FIRST)}/postgres?replication=true")


def test_a_lost_primary_is_replaced_by_the_standby_that_has_most(made: Servers) -> None:
    write(made, 1)
    assert "it is no standby" in refused(made, FIRST)
    assert "the primary, and answers" in refused(made, B)
    made.stop(B)
    write(made, 2)  # B lacks it
    made.kill(FIRST)
    made.start(B)
    made.await_healthy(B)
    assert "promote that one" in refused(made, B)
    assert "promote that one" in refused(made, B, "--may-lack")
    promoted = made.run(C, PROMOTE)
    assert promoted.returncode == 0, promoted.stderr
    eventually(lambda: made.states(*NODE) == following(B), 60)
    write(made, 3)

    made.start(FIRST)  # with what it had: it would be a second primary
    assert made.running[FIRST].wait(60) == 1
    assert f"{C} has taken its place" in made.logs(FIRST)
    made.lose(FIRST)
    made.start(FIRST)
    made.await_healthy(FIRST)
    eventually(lambda: made.states(*NODE) == following(FIRST, B), 60)
    assert written(made) == [1, 2, 3]

    made.stop(C, B, FIRST)  # and all of it is remembered
    made.start(*NODE)
    made.await_healthy(*NODE)
    eventually(lambda: made.states(*NODE) == following(FIRST, B), 60)


def refused(node: Servers, name: str, *arguments: str) -> str:
    done = node.run(name, PROMOTE, *arguments)
    assert done.returncode == 1
    return done.stderr


def test_a_standby_alone_may_lack_something(made: Servers) -> None:
    write(made, 1)
    made.kill(FIRST)
    made.stop(C)
    assert "may have something" in refused(made, B)
    done = made.run(B, PROMOTE, "--may-lack")
    assert done.returncode == 0, done.stderr
    assert written(made) == [1]


def test_a_node_that_was_made_is_not_made_anew(made: Servers) -> None:
    write(made, 1)
    made.stop(*NODE)
    made.lose(FIRST)
    made.start(FIRST)
    eventually(lambda: f"{FIRST}: waits for a primary" in made.logs(FIRST), 30)
    made.start(B, C)  # neither is it by them, and they are no primaries
    made.await_healthy(B, C)
    done = made.run(B, PROMOTE)  # FIRST, which is empty, and C: one is silent
    assert done.returncode == 0, done.stderr
    made.await_healthy(FIRST)
    eventually(lambda: made.states(*NODE) == following(FIRST, C), 60)
    assert written(made) == [1]


def test_a_server_that_waits_stops_when_it_is_told_to(node: Servers) -> None:
    node.start(B)
    eventually(lambda: f"{B}: waits for a primary" in node.logs(B), 30)
    process = node.running.pop(B)
    process.kill(process.command.end_signal)
    assert process.wait(15) == 1
    assert not node.data(B).exists()


def test_availability_waits_for_nobody(node: Servers) -> None:
    node.compose = compose.read({"MEMLANE_STANDBYS_CONFIRM": "0"})
    node.start(FIRST)
    node.await_healthy(FIRST)
    write(node, 1)
    node.start(B)
    eventually(lambda: node.states(FIRST) == {B: ("streaming", "async")}, 60)


def test_a_node_without_standbys_gets_them(node: Servers) -> None:
    """As it was made by the version before: one server, no role for standbys, nothing in its settings."""
    as_before(node)
    node.start(*NODE)
    node.await_healthy(FIRST)
    eventually(lambda: f"{B}: waits for a primary" in node.logs(B), 30)
    done = node.run(FIRST, "/memlane/roles.sh")
    assert done.returncode == 0, done.stderr
    node.await_healthy(B, C)
    eventually(lambda: node.states(*NODE) == following(B, C), 60)
    write(node, 1)


def as_before(node: Servers) -> None:
    node.start(FIRST)
    node.await_healthy(FIRST)
    with node.connect(FIRST) as connection:
        connection.execute("SET synchronous_commit = local")
        connection.execute("DROP ROLE memlane_standby")
    node.stop(FIRST)
    data = node.data(FIRST)
    for file, ours in (("postgresql.conf", "memlane.conf"), ("pg_hba.conf", "memlane_standby")):
        lines = (data / file).read_text().splitlines()
        kept = [line for line in lines if ours not in line]
        assert len(kept) == len(lines) - 1
        (data / file).write_text("\n".join(kept))
    for path in (data / "memlane.conf", data / "memlane.pgpass", node.lineup(FIRST) / "primary"):
        path.unlink()
