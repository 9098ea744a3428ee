"""A node that hangs is given up in time; one that is back is used again."""

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from time import monotonic, sleep
from typing import Any

import numpy as np
import psycopg
import pytest

from memlane.contract import Receipt
from memlane.embedded.postgres import Postgres
from memlane.errors import NodeDown
from memlane.storage import embedding_cache
from memlane.storage.embedding_cache import Cached, Text
from memlane.storage.hashing import text_hash
from memlane.storage.nodes import Node
from memlane.tasks import accept
from memlane.tasks.lane import Lane
from tests.support import accepted, count_rows, eventually, item


@contextmanager
def hanging(node: Node) -> Iterator[None]:
    """The server's end of this node's one connection stands still."""
    ((pid,),) = node.run(b"SELECT pg_backend_pid()")
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def test_a_server_that_stands_still_is_given_up(lane: Lane) -> None:
    node = lane.cluster.control
    with hanging(node):
        begun = monotonic()
        with pytest.raises(NodeDown):
            node.run(b"SELECT 1", patience_s=0.3)
        assert monotonic() - begun < 5
    assert node.run(b"SELECT 1") == [(1,)]


def test_a_cache_on_a_node_that_hangs_is_missed(lane: Lane) -> None:
    text = Text("acme", text_hash("tea"))
    embedding_cache.keep(lane.cluster, "hash", {text: Cached(np.ones(384, np.float32))})
    assert embedding_cache.find(lane.cluster, "hash", [text]).keys() == {text}
    node = lane.cluster.shard(lane.cluster.shard_of_text("acme", text.hash)).node
    with hanging(node):
        begun = monotonic()
        assert embedding_cache.find(lane.cluster, "hash", [text]) == {}
        assert monotonic() - begun < lane.settings.statement_timeout_s / 2
    assert node.run(b"SELECT 1") == [(1,)]  # those who are in no hurry are not refused for that


def test_a_statement_that_takes_its_time_is_cancelled_by_the_server_first(lane: Lane) -> None:
    node = lane.cluster.control
    node.run(b"SELECT 1")
    with node.connection() as connection:
        connection.execute("SET statement_timeout = 200")
        with pytest.raises(Exception, match="statement timeout"):
            connection.execute("SELECT pg_sleep(5)")
        assert connection.execute("SELECT 1").fetchone() == (1,)
        connection.execute("RESET ALL")


@contextmanager
def nobody_confirms(postgres: Postgres) -> Iterator[None]:
    """Commits wait for a standby that there is not."""
    with psycopg.connect(postgres.uri("postgres"), autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
        connection.execute("SELECT pg_reload_conf()")
        eventually(lambda: _waits(postgres, connection))
        try:
            yield
        finally:
            connection.execute("ALTER SYSTEM RESET synchronous_standby_names")
            connection.execute("SELECT pg_reload_conf()")


def _waits(postgres: Postgres, connection: "psycopg.Connection[tuple[Any, ...]]") -> bool:
    """Whether a commit waits already: another process of the server than ours takes the setting over."""
    with psycopg.connect(postgres.uri("postgres"), autocommit=True) as probe:
        pid = probe.info.backend_pid
        probe.pgconn.send_query(b"SELECT pg_logical_emit_message(true, 'probe', '')")
        sleep(0.05)
        state = connection.execute("SELECT wait_event FROM pg_stat_activity WHERE pid = %s", [pid]).fetchone()
        connection.execute("SELECT pg_terminate_backend(%s)", [pid])
        probe.pgconn.finish()
    return state == ("SyncRep",)


def end_the_wait(postgres: Postgres, how: str) -> None:
    """Cancel or terminate whoever waits for a standby."""
    waiting = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
    with psycopg.connect(postgres.uri("postgres"), autocommit=True) as connection:
        eventually(lambda: connection.execute(waiting).fetchone() is not None)
        connection.execute(f"SELECT {how}(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'".encode())


@pytest.mark.parametrize("how", ["pg_cancel_backend", "pg_terminate_backend"])
@pytest.mark.parametrize("atomic", [False, True])
def test_a_wait_for_a_standby_that_was_cut_short_is_no_receipt(
    lane: Lane, postgres: Postgres, how: str, atomic: bool
) -> None:
    """The row is there, and may vanish with this server: who asks again waits again."""
    accepted(lane, item("before"))
    with nobody_confirms(postgres), ThreadPoolExecutor(1) as pool:
        offered = pool.submit(accept.accept, lane, "acme", [item("tea", key="k")], atomic=atomic)
        end_the_wait(postgres, how)
        if atomic:
            assert isinstance(offered.exception(20), NodeDown)
        else:
            assert isinstance(offered.result(20)[0], NodeDown)
    eventually(lambda: isinstance(accept.accept(lane, "acme", [item("tea", key="k")])[0], Receipt))
    assert count_rows(lane.settings, lane.cluster, "ids") == 2


def test_who_reads_goes_on_while_nobody_confirms(lane: Lane, postgres: Postgres) -> None:
    node = lane.cluster.control
    accepted(lane, item("before"))
    with nobody_confirms(postgres):
        with pytest.raises(NodeDown):
            node.run(b"INSERT INTO control.tenants (tenant) VALUES ('late')", patience_s=0.5)
        assert node.run(b"SELECT 1") == [(1,)]
        end_the_wait(postgres, "pg_terminate_backend")
