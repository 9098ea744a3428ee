"""A node that hangs holds up its own callers, and nobody else."""

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Thread
from time import perf_counter

import httpx
import pytest
from pydantic import SecretStr

from memlane.config.settings import Settings
from memlane.tasks.lane import Lane
from tests.contract.conftest import serving


@pytest.fixture
def black_hole() -> Iterator[int]:
    """A port that takes connections and never answers."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(500)
    held: list[socket.socket] = []

    def hold() -> None:
        try:
            while True:
                held.append(listener.accept()[0])
        except OSError:
            return

    Thread(target=hold, daemon=True).start()
    yield listener.getsockname()[1]
    listener.close()
    for connection in held:
        connection.close()


def test_a_node_that_hangs_does_not_hold_up_the_others(
    settings: Settings, lane: Lane, tenant_key: str, black_hole: int
) -> None:
    homes = {f"a{n}": lane.cluster.shard(lane.cluster.shard_of("acme", f"a{n}")).node.name for n in range(60)}
    nodes = {**settings.nodes, "node-2": SecretStr(f"postgresql://127.0.0.1:{black_hole}/x")}
    hanging = settings.model_copy(update={"nodes": nodes})
    headers = {"Authorization": f"Bearer {tenant_key}"}
    with serving(hanging) as url, httpx.Client(base_url=url, headers=headers, timeout=30) as client:

        def remember(agent: str) -> tuple[int, float]:
            begun = perf_counter()
            answer = client.post("/v1/memories", json={"agent": agent, "content": "tea"})
            return answer.status_code, perf_counter() - begun

        remember(next(name for name, node in homes.items() if node == "node-1"))
        with ThreadPoolExecutor(60) as pool:
            answers = dict(zip(homes, pool.map(remember, homes), strict=True))
    living = [answers[name] for name, node in homes.items() if node == "node-1"]
    hung = [answers[name] for name, node in homes.items() if node == "node-2"]
    assert {status for status, _ in living} == {202}
    assert {status for status, _ in hung} == {503}
    assert max(took for _, took in living) < 1.5
    assert max(took for _, took in hung) < 15
