"""A node that hangs holds up its own callers, and nobody else."""

import asyncio
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Thread
from time import perf_counter

import httpx
import pytest
from pydantic import SecretStr

from memlane.config.settings import Settings
from memlane.gateway.threads import NodeThreads
from memlane.storage.cluster import ShardMap
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


@pytest.fixture
def hanging(settings: Settings, black_hole: int) -> Settings:
    """Settings of which the second node hangs."""
    nodes = {**settings.nodes, "node-2": SecretStr(f"postgresql://127.0.0.1:{black_hole}/x")}
    return settings.model_copy(update={"nodes": nodes})


@pytest.fixture
def homes(lane: Lane) -> dict[str, str]:
    """Agents, and the node that each is on."""
    return {f"a{n}": lane.cluster.shard(lane.cluster.shard_of("acme", f"a{n}")).node.name for n in range(60)}


def test_a_node_that_hangs_does_not_hold_up_the_others(
    hanging: Settings, homes: dict[str, str], tenant_key: str
) -> None:
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
    assert max(took for _, took in living) < hanging.pool_wait_s
    assert max(took for _, took in hung) < 15


def test_recalls_of_living_nodes_go_on_beside_one_that_hangs(
    hanging: Settings, homes: dict[str, str], tenant_key: str
) -> None:
    """The question's vector may be cached on the node that hangs."""
    headers = {"Authorization": f"Bearer {tenant_key}"}
    living = [agent for agent, node in homes.items() if node == "node-1"]
    with serving(hanging) as url, httpx.Client(base_url=url, headers=headers, timeout=30) as client:

        def recall(number: int) -> tuple[int, float]:
            begun = perf_counter()
            agent = living[number % len(living)]
            answer = client.post("/v1/recall", json={"agent": agent, "query": f"question {number}"})
            return answer.status_code, perf_counter() - begun

        with ThreadPoolExecutor(40) as pool:
            answers = list(pool.map(recall, range(80)))
    assert {status for status, _ in answers} == {200}
    assert max(took for _, took in answers) < hanging.statement_timeout_s / 2


def test_shards_that_were_down_when_the_map_was_read_are_found_later(settings: Settings, lane: Lane) -> None:
    whole = {shard.number: shard for shard in lane.cluster.shards()}
    missing = [number for number, shard in whole.items() if shard.node.name == "node-1"]
    lane.cluster._known = ShardMap(len(whole), {n: shard for n, shard in whole.items() if n not in missing})
    threads = NodeThreads(lane.cluster, settings)
    node = asyncio.run(threads.on_shard(missing[0], lambda: lane.cluster.shard(missing[0]).node.name))
    assert node == "node-1"
    threads.close()


def test_what_tells_of_all_nodes_does_so_while_one_hangs(
    hanging: Settings, homes: dict[str, str], tenant_key: str, admin_key: str
) -> None:
    one_thread = hanging.model_copy(update={"gateway_threads": 1, "gateway_queue": 20})
    hung = [agent for agent, node in homes.items() if node == "node-2"][:5]
    tenant, admin = ({"Authorization": f"Bearer {key}"} for key in (tenant_key, admin_key))
    with serving(one_thread) as url, httpx.Client(base_url=url, timeout=30) as client, ThreadPoolExecutor(5) as pool:
        assert client.get("/v1/ledger", headers=tenant).json()["missing"] != []
        for agent in hung:
            pool.submit(client.post, "/v1/memories", headers=tenant, json={"agent": agent, "content": "tea"})
        assert client.get("/readyz").json() == {"ready": True, "nodes_down": ["node-2"]}
        status = client.get("/v1/admin/status", headers=admin).json()
        assert [(node["name"], node["up"]) for node in status["nodes"]] == [("node-1", True), ("node-2", False)]
        assert {shard["up"] for shard in status["shards"]} == {True, False}
