"""The clients on bad connections, and in asyncio."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, ClassVar
from uuid import UUID

import pytest

from memlane import AsyncClient, Client, State
from memlane.errors import Conflict, InvalidInput, Misconfigured, NotFound, ServerError, Unavailable, WaitTimeout


class Flaky(BaseHTTPRequestHandler):
    """Breaks the first connections, then answers 503, then accepts; keeps what it was sent."""

    script: ClassVar[list[str]] = []
    bodies: ClassVar[list[dict[str, Any]]] = []

    def do_POST(self) -> None:
        Flaky.bodies.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
        step = Flaky.script.pop(0) if Flaky.script else "accept"
        if step == "break":
            self.connection.close()
            return
        items = Flaky.bodies[-1]["memories"]
        if step == "half":
            receipts = [_receipt(i) if n % 2 == 0 else None for n, i in enumerate(items)]
            rejections = [
                {"index": n, "status": 503, "detail": "node down", "retryable": True} for n in range(1, len(items), 2)
            ]
            self._answer(202, {"receipts": receipts, "rejections": rejections})
        elif step == "accept":
            self._answer(202, {"receipts": [_receipt(i) for i in items], "rejections": []})
        elif step == "garbage":
            self._answer(202, {"hello": "world"})
        elif step == "html":
            self._answer(500, "<h1>oops</h1>")
        else:
            self._answer(int(step), {"status": int(step), "code": "unavailable", "detail": "busy"})

    def _answer(self, status: int, body: object) -> None:
        data = json.dumps(body).encode() if not isinstance(body, str) else body.encode()
        self.send_response(status)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: object) -> None: ...


def _receipt(item: dict[str, Any]) -> dict[str, Any]:
    return {"id": item["id"], "agent": item["agent"], "state": "accepted"}


@contextmanager
def flaky(*script: str) -> Iterator[str]:
    Flaky.script, Flaky.bodies = list(script), []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Flaky)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


def ids() -> list[list[str]]:
    return [[item["id"] for item in body["memories"]] for body in Flaky.bodies]


def test_broken_connections_and_503_are_tried_again_with_the_same_ids() -> None:
    with flaky("break", "503", "503", "break", "accept") as url, Client(url, "k") as client:
        receipt = client.remember("ada", "tea")
    assert receipt.state is State.ACCEPTED
    assert ids() == [[str(receipt.id)]] * 5


def test_only_what_was_down_is_sent_again() -> None:
    with flaky("half", "half") as url, Client(url, "k") as client:
        batch = client.remember_many([{"agent": "ada", "content": f"tea {n}"} for n in range(4)])
    assert all(batch.receipts)
    assert batch.rejections == ()
    sent = ids()
    assert sent[1] == sent[0][1::2]
    assert sent[2] == sent[1][1::2]


def test_what_was_taken_in_is_reported_though_the_rest_never_is() -> None:
    items = [{"agent": "ada", "content": f"tea {n}"} for n in range(4)]

    async def later(url: str) -> list[bool]:
        async with AsyncClient(url, "k", retries=2) as client:
            batch = await client.remember_many(items)
            return [receipt is not None for receipt in batch.receipts]

    with flaky("half", "503", "503", "503") as url, Client(url, "k", retries=2) as client:
        batch = client.remember_many(items)
    assert [receipt is not None for receipt in batch.receipts] == [True, False, True, False]
    assert [rejection.index for rejection in batch.rejections] == [1, 3]
    with flaky("half", "503", "503", "503") as url:
        assert asyncio.run(later(url)) == [True, False, True, False]


def test_waiting_for_what_nobody_knows(gateway: str, tenant_key: str) -> None:
    with Client(gateway, tenant_key) as client:
        known = client.remember("ada", "tea")
        unknown = replace(known, id=UUID(int=7))
        with pytest.raises(NotFound):
            client.wait([unknown], timeout=5)


@pytest.mark.parametrize("url", ["nonsense", "http://[::1", "http://host:abc", "ftp://host", "http://"])
def test_a_url_that_is_none(url: str) -> None:
    with pytest.raises(Misconfigured):
        Client(url, "k")


def test_in_the_end_it_is_an_error() -> None:
    with flaky("503", "503", "503") as url, Client(url, "k", retries=2) as client, pytest.raises(Unavailable):
        client.remember("ada", "tea")
    with Client("http://127.0.0.1:1", "k", retries=1) as client, pytest.raises(Unavailable, match=r"127\.0\.0\.1:1"):
        client.remember("ada", "tea")


@pytest.mark.parametrize("step", ["garbage", "html"])
def test_an_answer_that_is_none(step: str) -> None:
    with flaky(step) as url, Client(url, "k") as client, pytest.raises(ServerError) as caught:
        client.remember("ada", "secret tea")
    assert "secret" not in str(caught.value)


def test_asyncio_too() -> None:
    async def run(url: str) -> None:
        async with AsyncClient(url, "k") as client:
            batch = await client.remember_many([{"agent": "ada", "content": f"tea {n}"} for n in range(4)])
            assert all(batch.receipts)

    with flaky("break", "503", "half", "accept") as url:
        asyncio.run(run(url))
    assert ids()[0] == ids()[1] == ids()[2]


def test_waiting_that_takes_too_long(gateway: str, tenant_key: str) -> None:
    with Client(gateway, tenant_key) as client:
        receipt = client.remember("ada", "tea")
        with pytest.raises(WaitTimeout, match="safe"):
            receipt.wait("searchable", timeout=0.3)


def test_the_async_client_does_all_that_the_other_does(gateway: str, tenant_key: str, worker: None) -> None:
    assert worker is None

    async def run() -> None:
        async with AsyncClient(gateway, tenant_key) as client:
            receipt = await client.remember("ada", "green tea", key="k", tags=["drink"])
            assert (await receipt.wait("searchable")).reached is State.SEARCHABLE
            recalled = await client.recall("ada", "tea", tags=["drink"])
            assert (await client.recall(["ada", "nobody"], "tea", tags=["drink"])).hits == recalled.hits
            assert [hit.memory.content for hit in recalled] == ["green tea"]
            assert (await client.get("ada", receipt.id)).key == "k"
            assert (await client.receipt("ada", receipt.id)).state is State.SEARCHABLE
            assert [memory.content async for memory in client.memories("ada")] == ["green tea"]
            assert len((await client.page("ada", limit=1)).memories) == 1
            with pytest.raises(Conflict):
                await client.remember("ada", "black tea", key="k")
            with pytest.raises(InvalidInput):
                await client.remember("ada", "")
            batch = await client.remember_many([{"agent": "ada", "content": "a"}, {"agent": "ada", "content": ""}])
            assert len(batch.rejections) == 1
            await batch.wait("stored")
            assert await client.embed(["later"]) == 1
            await client.optimize("ada")
            await client.forget("ada", receipt.id)
            with pytest.raises(NotFound):
                await client.get("ada", receipt.id)
            await client.forget_agent("ada")
            assert (await client.ledger()).events

    asyncio.run(run())


def test_both_clients_have_the_same_methods() -> None:
    def public(kind: type) -> set[str]:
        return {name for name in dir(kind) if not name.startswith("_")}

    assert public(Client) == public(AsyncClient)
