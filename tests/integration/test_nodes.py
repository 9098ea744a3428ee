"""A node that hangs is given up in time; one that is back is used again."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

import numpy as np
import pytest

from memlane.errors import NodeDown
from memlane.storage import embedding_cache
from memlane.storage.embedding_cache import Text
from memlane.storage.hashing import text_hash
from memlane.storage.nodes import Node
from memlane.tasks.lane import Lane


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
    embedding_cache.keep(lane.cluster, "hash", {text: np.ones(384, np.float32)})
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
