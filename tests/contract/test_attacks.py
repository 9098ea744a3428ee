"""Bodies and requests made to do harm: none takes more than its share, and the gateway goes on serving."""

import gzip
import json
import resource
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic, perf_counter
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from memlane.config.settings import Settings
from memlane.contract import limits
from memlane.storage import tenants
from memlane.tasks.lane import Lane
from tests.contract.conftest import serving
from tests.contract.test_gateway import problem
from tests.support import MakeSettings

ONE = '"agent": "ada", "content": "tea"'
MANY = 500_000


@pytest.fixture
def hasty(make_settings: MakeSettings) -> Settings:
    """Settings with a small limit and little patience."""
    return make_settings(max_body_bytes=100_000, body_s=0.5)


@pytest.fixture
def target(hasty: Settings) -> Iterator[tuple[str, str]]:
    """The URL of a gateway, and a key for it."""
    lane = Lane(hasty, "test")
    lane.open()
    tenants.create_tenant(lane.cluster.control, "acme")
    key = tenants.create_key(lane.cluster.control, "acme")
    lane.close()
    with serving(hasty) as url:
        yield url, key


@contextmanager
def connected(url: str) -> Iterator[socket.socket]:
    """A connection without a client that would do things right."""
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname, parts.port), timeout=20) as connection:
        yield connection


def head(key: str | None, *lines: str) -> bytes:
    """The head of a POST with these header lines."""
    known = [f"Authorization: Bearer {key}"] if key else []
    return "\r\n".join(["POST /v1/memories HTTP/1.1", "Host: x", *known, *lines, "", ""]).encode("latin-1")


def answered(connection: socket.socket) -> tuple[int, bytes]:
    """The status of an answer, and all that came until the server closed the connection."""
    seen = b""
    try:
        while part := connection.recv(65536):
            seen += part
    except ConnectionResetError:
        pass
    assert seen.startswith(b"HTTP/1.1 "), seen
    return int(seen.split(b" ", 2)[1]), seen


def alive(url: str) -> None:
    assert httpx.get(f"{url}/healthz").json() == {"status": "alive"}


def test_a_body_that_is_shorter_than_announced(target: tuple[str, str]) -> None:
    """Whoever waits for the rest is told so, and the connection ends."""
    url, key = target
    with connected(url) as connection:
        connection.sendall(head(key, "Content-Length: 1000") + b'{"agent"')
        begun = monotonic()
        status, seen = answered(connection)
        assert (status, monotonic() - begun < 5) == (408, True)
        assert b'"too_slow"' in seen
        assert b"connection: close" in seen.lower()
    alive(url)


def test_a_body_that_comes_drop_by_drop(target: tuple[str, str]) -> None:
    """Each byte is in time; all of it is not."""
    url, key = target
    with connected(url) as connection:
        connection.sendall(head(key, "Transfer-Encoding: chunked"))
        begun = monotonic()
        connection.settimeout(0.05)
        seen = b""
        while not seen and monotonic() - begun < 10:
            connection.sendall(b"1\r\n \r\n")
            try:
                seen = connection.recv(65536)
            except TimeoutError:
                continue
        assert seen.startswith(b"HTTP/1.1 408")
        assert monotonic() - begun < 5
    alive(url)


@pytest.mark.parametrize("announced", ["0x10", "-5", "+5", "5, 6", "\xb2", "", "1e3", "9" * 5000])
def test_a_length_that_is_none(target: tuple[str, str], announced: str) -> None:
    url, key = target
    with connected(url) as connection:
        connection.sendall(head(key, f"Content-Length: {announced}") + b"{}")
        assert answered(connection)[0] in (400, 408, 413)
    alive(url)


def test_more_than_was_announced_is_no_part_of_the_body(target: tuple[str, str]) -> None:
    url, key = target
    body = f"{{{ONE}}}".encode()
    with connected(url) as connection:
        connection.sendall(head(key, f"Content-Length: {len(body)}") + body + b"GARBAGE\r\n\r\n")
        _, seen = answered(connection)
    assert b"HTTP/1.1 400" in seen
    assert b"HTTP/1.1 5" not in seen
    alive(url)


@pytest.mark.parametrize("with_key", [True, False])
def test_chunks_without_end(target: tuple[str, str], with_key: bool) -> None:
    """The connection is closed after the answer: nobody may go on sending for nothing."""
    url, key = target
    with connected(url) as connection:
        connection.sendall(head(key if with_key else None, "Transfer-Encoding: chunked"))
        chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
        sent = 0
        try:
            while sent < 1000 * len(chunk):
                connection.sendall(chunk)
                sent += len(chunk)
        except OSError:
            pass
        assert sent < 1000 * len(chunk)
        assert answered(connection)[0] == (413 if with_key else 401)
    alive(url)


def test_a_refused_request_does_not_hold_its_connection(target: tuple[str, str]) -> None:
    """Without a key, and the body never comes."""
    url, _ = target
    with connected(url) as connection:
        connection.sendall(head(None, "Content-Length: 50000") + b"{")
        assert answered(connection)[0] == 401
    with connected(url) as connection:
        connection.sendall(head(None, "Content-Length: 50000", "Expect: 100-continue"))
        status, seen = answered(connection)
        assert (status, b"100 Continue" in seen) == (401, False)


@pytest.mark.parametrize("size", [100_001, 1_000_000, 5_000_000])
def test_a_client_that_sends_all_before_it_reads_is_told(target: tuple[str, str], size: int) -> None:
    """Closing on what is still under way would cost it the answer."""
    url, key = target
    for headers, status in (({"Authorization": f"Bearer {key}"}, 413), ({}, 401)):
        for _ in range(5):
            assert httpx.post(f"{url}/v1/memories", content=b" " * size, headers=headers).status_code == status


def test_a_small_body_that_was_not_read_costs_no_connection(target: tuple[str, str]) -> None:
    url, key = target
    with httpx.Client(base_url=url) as client:
        for _ in range(2):
            answer = client.post("/v1/memories", json={"agent": "ada", "content": "tea"})
            assert (answer.status_code, "connection" in answer.headers) == (401, False)
        ends = [client.post("/v1/memories", content=b"x" * 99_000, headers={"Authorization": f"Bearer {key}"})]
        assert [end.status_code for end in ends] == [400]


def test_a_client_that_goes_away_in_its_body(target: tuple[str, str], caplog: pytest.LogCaptureFixture) -> None:
    url, key = target
    for _ in range(5):
        with connected(url) as connection:
            connection.sendall(head(key, "Content-Length: 1000") + b"{")
    alive(url)
    assert "Traceback" not in caplog.text
    assert "Exception in ASGI" not in caplog.text


def test_compressed_bodies_are_not_opened(target: tuple[str, str]) -> None:
    url, key = target
    bomb = gzip.compress(b" " * 50_000_000)
    assert len(bomb) < 100_000
    headers = {"Authorization": f"Bearer {key}", "Content-Encoding": "gzip"}
    begun = perf_counter()
    found = problem(httpx.post(f"{url}/v1/memories", content=bomb, headers=headers), 400, "malformed")
    assert "compressed" in found["detail"]
    headers.pop("Content-Encoding")
    problem(httpx.post(f"{url}/v1/memories", content=bomb, headers=headers), 400, "malformed")
    assert perf_counter() - begun < 2


def many(text: str) -> str:
    return ",".join([text] * MANY)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/memories", "{" + ONE + "," + ",".join(f'"f{n}":1' for n in range(MANY)) + "}"),
        ("/v1/memories", '{"memories":[],' + ",".join(f'"f{n}":1' for n in range(MANY)) + "}"),
        ("/v1/memories", "{" + ONE + ',"tags":[' + many("1") + "]}"),
        ("/v1/memories", '{"memories":[' + many("1") + "]}"),
        (
            "/v1/memories",
            '{"memories":[' + ",".join(["{" + ONE + ',"tags":[' + ",".join(["1"] * 3000) + "]}"] * 1000) + "]}",
        ),
        ("/v1/memories", '{"memories":[' + ",".join(["{" + many('"x":1')[:7000] + ":1}"] * 1000) + "]}"),
        ("/v1/memories", "{" + ONE + ',"metadata":{' + ",".join(f'"f{n}":1' for n in range(MANY)) + "}}"),
        ("/v1/memories", "{" + ONE + ',"metadata":{"a":[' + ",".join(["9" * 4000] * 1500) + "]}}"),
        ("/v1/memories", "{" + ONE + ',"metadata":{"a":' + "[" * MANY + "]" * MANY + "}}"),
        ("/v1/recall", '{"agent":"a","query":"q","kinds":[' + many('"a"') + "]}"),
        ("/v1/recall", '{"agent":"a","query":"q","tags":[' + many('""') + "]}"),
        ("/v1/receipts", '{"receipts":[' + many("{}") + "]}"),
        ("/v1/embeddings", '{"texts":[' + many('""') + "]}"),
        ("/v1/memories", "[" * MANY),
        ("/v1/memories", '{"a":' * MANY),
        ("/v1/memories", "9" * 4_000_000),
    ],
    ids=lambda value: value[:24],
)
def test_many_of_everything_is_refused_in_few_words(http: httpx.Client, path: str, body: str) -> None:
    """A million errors would take a minute, in which the gateway serves nobody, and an answer larger than the body."""
    begun = perf_counter()
    answer = http.post(path, content=body.encode())
    assert answer.status_code in (400, 422), answer.text[:300]
    assert len(answer.content) < 400_000
    assert perf_counter() - begun < 5


@pytest.mark.parametrize("value", ["1e400", "-1e400", "1" + "0" * 400, "-0.0", "1e-400", "NaN", "Infinity"])
def test_numbers_that_no_float_holds(http: httpx.Client, value: str) -> None:
    for field in (f'"importance": {value}', f'"metadata": {{"n": {value}}}'):
        answer = http.post("/v1/memories", content=f"{{{ONE}, {field}}}".encode())
        assert answer.status_code in (200, 202, 422), answer.text


def test_as_many_as_allowed_still_pass(http: httpx.Client) -> None:
    tags = [f"tag-{n}" for n in range(limits.TAGS)]
    body: dict[str, Any] = {"agent": "ada", "content": "tea", "tags": tags}
    assert http.post("/v1/memories", content=json.dumps(body).encode()).status_code == 202
    kinds = [f"kind-{n}" for n in range(limits.KINDS)]
    asked = {"agent": "ada", "query": "tea", "kinds": kinds, "tags": tags}
    assert http.post("/v1/recall", json=asked).status_code == 200


ENDLESS = {
    "header": (b"GET / HTTP/1.1\r\nHost: x\r\n", b"X-Filler: " + b"a" * 30_000 + b"\r\n"),
    "value": (b"GET / HTTP/1.1\r\nHost: x\r\nX-Filler: ", b"a" * 30_000),
    "path": (b"GET /", b"a" * 30_000),
    "trailer": (
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n",
        b"X-Filler: " + b"a" * 30_000 + b"\r\n",
    ),
    "extension": (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1;", b"a" * 30_000),
}
"""What may come before anybody has looked at a key: a beginning, and what goes on after it."""


@pytest.mark.parametrize("kind", ENDLESS)
def test_a_head_without_end(target: tuple[str, str], kind: str) -> None:
    url, _ = target
    begin, more = ENDLESS[kind]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    sent = 0
    with connected(url) as connection:
        connection.settimeout(5)
        try:
            connection.sendall(begin)
            while sent < 100_000_000:
                connection.sendall(more)
                sent += len(more)
        except OSError:
            pass
    assert sent < 20_000_000  # what fits into the buffers of both sides
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000
    alive(url)


def test_a_head_within_bounds(target: tuple[str, str]) -> None:
    url, key = target
    with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}", "X-Filler": "a" * 50_000}) as client:
        for _ in range(3):
            assert client.get("/v1/ledger").status_code == 200


@pytest.mark.parametrize("begin", [b"", b"GET /healthz HTTP/1.1\r\nHost: x\r\n"])
def test_a_head_that_does_not_come(target: tuple[str, str], monkeypatch: pytest.MonkeyPatch, begin: bytes) -> None:
    """Also the second one on a connection."""
    monkeypatch.setattr("memlane.gateway.protocol.HEAD_S", 0.3)
    url, _ = target
    with connected(url) as connection:
        connection.sendall(begin)
        assert connection.recv(100) == b""
    with connected(url) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" + begin)
        assert answered(connection)[0] == 200
    alive(url)
