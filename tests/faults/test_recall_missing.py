"""A recall of several agents while the node of some is gone: they are named, and the others answer soon."""

import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from threading import Event, Thread
from time import monotonic
from urllib.parse import urlsplit, urlunsplit

import httpx
import pytest
from pydantic import SecretStr

from memlane import Client
from memlane.config.settings import Settings
from memlane.errors import Unavailable
from memlane.tasks.lane import Lane
from tests.contract.conftest import serving
from tests.support import eventually, item, remembered

pytestmark = pytest.mark.faults

AGENTS = tuple(f"a{n}" for n in range(16))
SOON_S = 12.0
"""What an answer may take on a loaded machine where a node hangs; the patience is 1 s for the search, 3 s to read."""


class Link:
    """A TCP link to a server, that can be cut or made to hang."""

    def __init__(self, host: str, port: int) -> None:
        self._target = host, port
        self._goes_on = Event()
        self._goes_on.set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sockets: list[socket.socket] = []
        self.port: int = self._listener.getsockname()[1]
        self._threads: list[Thread] = []
        self._start(self._accept)

    def hang(self) -> None:
        """Take everything, pass nothing on."""
        self._goes_on.clear()

    def heal(self) -> None:
        """Pass on again."""
        self._goes_on.set()

    def cut(self) -> None:
        """Nothing listens any more, and what was connected is not."""
        for one in (self._listener, *self._sockets):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Let go of everything."""
        self.heal()
        self.cut()
        while self._threads:
            self._threads.pop().join(10)
        for one in (self._listener, *self._sockets):
            one.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near = self._listener.accept()[0]
                far = socket.create_connection(self._target)
                self._sockets += [near, far]
                for ends in ((near, far), (far, near)):
                    self._start(self._pass_on, *ends)

    def _start(self, target: Callable[..., None], *ends: socket.socket) -> None:
        self._threads.append(Thread(target=target, args=ends, daemon=True))
        self._threads[-1].start()

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                self._goes_on.wait()
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)


@pytest.fixture
def link(settings: Settings) -> Iterator[Link]:
    """The link to the second node."""
    parts = urlsplit(settings.nodes["node-2"].get_secret_value())
    made = Link(parts.hostname or "", parts.port or 0)
    yield made
    made.close()


@pytest.fixture
def linked(settings: Settings, link: Link) -> Settings:
    """Settings by which the second node is reached over the link."""
    parts = urlsplit(settings.nodes["node-2"].get_secret_value())
    netloc = f"{parts.netloc.rpartition('@')[0]}@127.0.0.1:{link.port}"
    uri = SecretStr(urlunsplit(parts._replace(netloc=netloc)))
    return settings.model_copy(update={"nodes": {**settings.nodes, "node-2": uri}, "question_s": 1.0})


@pytest.fixture
def homes(lane: Lane) -> dict[str, int]:
    """The agents of the second node, with their shards; each agent has a memory."""
    remembered(lane, *(item(f"tea of {agent}", agent) for agent in AGENTS))
    shards = {agent: lane.cluster.shard(lane.cluster.shard_of("acme", agent)) for agent in AGENTS}
    found = {agent: shard.number for agent, shard in shards.items() if shard.node.name == "node-2"}
    assert 0 < len(found) < len(AGENTS)
    return found


@pytest.mark.parametrize("how", ["cut", "hang"])
def test_agents_of_a_node_that_is_gone_are_named(
    linked: Settings, link: Link, homes: dict[str, int], tenant_key: str, how: str
) -> None:
    gone, living = tuple(homes), set(AGENTS) - homes.keys()
    with serving(linked) as url, Client(url, tenant_key, retries=0) as client:
        whole = client.recall(AGENTS, "tea", limit=100)
        assert {hit.memory.agent for hit in whole} == set(AGENTS)
        assert (whole.missing, whole.degraded) == ((), ())
        getattr(link, how)()
        for _ in range(3):
            begun = monotonic()
            recalled = client.recall(AGENTS, "tea", limit=100)
            assert monotonic() - begun < SOON_S
            assert recalled.missing == gone
            assert {hit.memory.agent for hit in recalled} == living
            said = " ".join(recalled.degraded)
            assert "node-2" in said
            assert all(str(shard) in said for shard in homes.values())
        everybody = client.recall_all_agents("tea", limit=100)
        assert {hit.memory.agent for hit in everybody} == living
        assert "node-2" in " ".join(everybody.degraded)
        begun = monotonic()
        with pytest.raises(Unavailable, match="node-2"):
            client.recall(gone, "tea")
        assert monotonic() - begun < SOON_S
        assert not client.recall(sorted(living), "tea").degraded
        if how == "hang":
            link.heal()
            eventually(lambda: client.recall(AGENTS, "tea").missing == (), 40)


def test_a_node_that_goes_between_search_and_reading_is_named_as_well(
    linked: Settings, link: Link, homes: dict[str, int], tenant_key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it found is not shown as if it were all."""
    from memlane.tasks import ranking

    plain = ranking.rank

    def cutting(*given: object) -> object:
        link.cut()
        return plain(*given)  # type: ignore[arg-type]  # passed on as it came

    with serving(linked) as url, httpx.Client(base_url=url, timeout=30) as client:
        monkeypatch.setattr(ranking, "rank", cutting)
        headers = {"Authorization": f"Bearer {tenant_key}"}
        asked = {"agents": AGENTS, "query": "tea", "limit": 100}
        answer = client.post("/v1/recall", json=asked, headers=headers).json()
    assert answer["missing"] == list(homes)
    assert {hit["memory"]["agent"] for hit in answer["hits"]} == set(AGENTS) - homes.keys()
