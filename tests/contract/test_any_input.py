"""Whatever is handed over comes back as it was, or is refused by name and has left nothing; nothing is a 500.

MEMLANE_TEST_EXAMPLES says how many of each are tried.
"""

import gzip
import json
import os
import socket
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from typing import Any
from urllib.parse import quote, urlsplit
from uuid import UUID, uuid4

import httpx
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from memlane import Client
from memlane.contract import Event
from memlane.contract.memory import MemoryItem
from memlane.errors import InvalidInput
from memlane.storage import tenants
from tests.contract.conftest import Target
from tests.support import eventually

pytestmark = [
    # Hypothesis sees that threads of the gateway, in the same process, use random numbers.
    pytest.mark.filterwarnings("ignore::hypothesis.errors.HypothesisDeprecationWarning"),
    pytest.mark.timeout(600),
]

bounded = settings(
    max_examples=int(os.environ.get("MEMLANE_TEST_EXAMPLES", "40")),
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
)

ODD = (
    *("", " ", "\u3000", "\x00", "a\x00b", "\ud800", "\udc00\ud800", "\ufeff", "\uffff", "\U0010ffff", "\x7f", "\x85"),
    *("\u202egreen\u202c tea", "e\u0301", "\u00e9", "\u0130", "👩‍👩‍👧‍👦 tea", "\u2028", "a\r\nb", "\x1b[31m", "\t"),
    *("' OR 1=1 --", "%s %(agent)s %", "{shard}", "\\", "\\x00", "\\u0000", '"', "..", ".", "a/b", "a%2Fb", "?&#;"),
    *("@1", "1@1.com", "NULL", "true", "-1", "1e400", "[]", "tea & !tea | <-> :*"),
    *("x" * 129, "é" * 64, "\U0001f375" * 64),
)
"""What has broken something somewhere."""

TEXT = st.sampled_from(ODD) | st.text(st.characters(), max_size=30) | st.text(max_size=12)
NUMBERS = st.integers(-(10**40), 10**40) | st.floats() | st.sampled_from([-0.0, 1e308, 5e-324, 2**63, -(2**63) - 1])
LEAVES = st.none() | st.booleans() | NUMBERS | TEXT
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4), max_leaves=12
)
DEEP = st.integers(25, 40).map(lambda depth: json.loads('{"a":' * depth + "1" + "}" * depth))
METADATA = st.dictionaries(TEXT, VALUES, max_size=5) | DEEP | st.just({"large": "x" * 16_400}) | VALUES
ZONES = st.none() | st.timedeltas(timedelta(hours=-23), timedelta(hours=23)).map(timezone)
TIMES = (
    st.datetimes(timezones=ZONES).map(datetime.isoformat)
    | st.sampled_from(["2016-12-31T23:59:60Z", "0000-01-01T00:00:00Z", "10000-01-01", "infinity", "now", "2024-02-30"])
    | st.sampled_from(["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59.999999-12:00", "2024-02-29", "1e400"])
    | st.floats()
    | st.integers()
)
IDS = st.uuids(allow_nil=True).map(str) | st.sampled_from([str(UUID(int=2**128 - 1)), "{}", "1", ""]) | TEXT
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "key": TEXT,
    "id": IDS,
    "kind": TEXT,
    "importance": st.floats(0, 1) | NUMBERS | TEXT,
    "tags": st.lists(TEXT, max_size=4) | st.lists(TEXT, max_size=40) | VALUES,
    "metadata": METADATA,
    "occurred_at": TIMES,
    "thread": TEXT,
    "speaker": TEXT,
    "pinned": st.booleans() | LEAVES,
    "supersedes": IDS,
}
FEW = st.lists(st.sampled_from(sorted(FIELDS)), max_size=3, unique=True)


@st.composite
def items(draw: st.DrawFn) -> dict[str, Any]:
    """A memory of which some fields are anything."""
    names = draw(FEW)
    plain = st.just("ada") | st.just("agent") | TEXT
    return {"agent": draw(plain), "content": draw(st.just("green tea") | TEXT)} | {
        name: draw(FIELDS[name]) for name in names
    }


@pytest.fixture
def tenant(target: Target) -> str:
    """A tenant of this test's own."""
    name = f"t-{uuid4()}"[:40]
    tenants.create_tenant(target.lane.cluster.control, name)
    return name


@pytest.fixture
def key(target: Target, tenant: str) -> str:
    """Its key."""
    return tenants.create_key(target.lane.cluster.control, tenant)


@pytest.fixture
def ask(target: Target, key: str) -> Iterator[Callable[..., httpx.Response]]:
    """Sends a request with the key; the answer is in order."""
    with httpx.Client(base_url=target.url, headers={"Authorization": f"Bearer {key}"}, timeout=60) as client:

        def send(method: str, path: str, body: Any = None, **more: Any) -> httpx.Response:
            content = None if body is None else json.dumps(body).encode()
            return in_order(client.request(method, path, content=content, **more))

        yield send


def in_order(answer: httpx.Response) -> httpx.Response:
    """An answer that is no failure of ours, and where it is a refusal, says of what."""
    assert answer.status_code < 500, answer.text
    if answer.status_code >= 400:
        assert answer.headers["content-type"] == "application/problem+json", answer.text
        found = answer.json()
        assert found["detail"]
        if found["code"] in ("invalid_input", "malformed"):
            assert all(error["field"] and error["detail"] for error in found["errors"]), found
            assert found["errors"], found
    return answer


def same(a: Any, b: Any) -> bool:
    """Whether two JSON values are the same; a number is what it is as a float, where it is one on either side."""
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[name], b[name]) for name in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, float) or isinstance(b, float):
        return not isinstance(a, bool | str) and not isinstance(b, bool | str) and float(a) == float(b)
    return type(a) is type(b) and bool(a == b)


def as_given(memory: dict[str, Any], given: dict[str, Any]) -> None:
    """A memory is what was handed over."""
    checked = MemoryItem.model_validate(given)
    for name, value in given.items():
        match name:
            case "metadata":
                assert same(memory["metadata"], value), (memory["metadata"], value)
            case "occurred_at":
                assert datetime.fromisoformat(memory[name]) == (checked.occurred_at or memory[name])
            case "importance":
                assert memory[name] == checked.importance
            case "id" | "supersedes":
                assert UUID(memory[name]) == getattr(checked, name)
            case _:
                assert memory.get(name) == (list(value) if name == "tags" else value), name


def named(error: InvalidInput) -> None:
    """An error says of each field what is wrong."""
    assert error.fields
    assert all(field.field and field.detail for field in error.fields)


def path_of(agent: str, id_: str = "") -> str:
    return quote(agent, safe="") + (f"/{id_}" if id_ else "")


def test_a_memory_comes_back_or_has_left_nothing(ask: Callable[..., httpx.Response]) -> None:
    counts = {Event.ACCEPTED: 0, Event.REJECTED: 0}

    @bounded
    @given(items())
    def holds(given: dict[str, Any]) -> None:
        answer = ask("POST", "/v1/memories", given)
        if answer.status_code == 422:
            counts[Event.REJECTED] += 1
            fields = {error["field"].partition(".")[0] for error in answer.json()["errors"]}
            assert fields <= {*given, "id"}
            return
        if answer.status_code != 202:  # the same key or id again
            assert answer.status_code in (200, 409)
            counts[Event.REJECTED] += answer.status_code == 409
            return
        counts[Event.ACCEPTED] += 1
        id_ = answer.json()["id"]
        here = path_of(given["agent"], id_)
        state = ask("GET", f"/v1/receipts/{here}", params={"wait": "searchable", "timeout": 30}).json()["state"]
        assert state == "searchable"
        memory = ask("GET", f"/v1/memories/{here}").json()
        as_given(memory, given)
        listed = ask("GET", "/v1/memories", params={"agent": given["agent"], "include_superseded": True}).json()
        assert memory in [{**one, "superseded_by": memory.get("superseded_by")} for one in listed["memories"]] or (
            memory in listed["memories"]
        )
        asked = {"agent": given["agent"], "query": given["content"][:1000], "limit": 100, "include_superseded": True}
        assert id_ in [hit["memory"]["id"] for hit in ask("POST", "/v1/recall", asked).json()["hits"]]

    holds()
    assert min(counts.values()) > 0
    eventually(lambda: dict(ask("GET", "/v1/ledger").json()["events"]).items() >= {**counts}.items(), 30)


def test_an_update_comes_back_or_has_changed_nothing(ask: Callable[..., httpx.Response]) -> None:
    id_ = ask("POST", "/v1/memories", {"agent": "ada", "content": "tea"}).json()["id"]
    here = f"ada/{id_}"
    changed = ["content", *sorted({*FIELDS} - {"key", "id", "thread", "speaker"})]

    @st.composite
    def updates(draw: st.DrawFn) -> dict[str, Any]:
        names = draw(st.lists(st.sampled_from(changed), max_size=3, unique=True))
        return {name: draw(TEXT if name == "content" else FIELDS[name]) for name in names}

    @bounded
    @given(updates())
    def holds(given: dict[str, Any]) -> None:
        before = (
            ask("GET", f"/v1/receipts/{here}", params={"wait": "stored"}).json()
            and ask("GET", f"/v1/memories/{here}").json()
        )
        answer = ask("PATCH", f"/v1/memories/{here}", given)
        after = ask("GET", f"/v1/memories/{here}").json()
        if answer.status_code != 200:
            assert answer.status_code in (409, 422)
            assert after == before
            return
        as_given(after, {"agent": "ada", "content": before["content"], **given})
        said = [version["content"] for version in ask("GET", f"/v1/memories/{here}/history").json()]
        assert after["content"] == before["content"] or said[0] == before["content"]

    holds()


def test_the_sdk_brings_back_what_it_was_given(target: Target, key: str) -> None:
    with Client(target.url, key, retries=0) as client:

        @bounded
        @given(items(), TEXT)
        def holds(given: dict[str, Any], second: str) -> None:
            given = {**given, "id": uuid4()} if "key" not in given else {k: v for k, v in given.items() if k != "id"}
            try:
                receipt = client.remember_many([given]).receipts[0]
            except InvalidInput as error:
                named(error)
                return
            if receipt is None or receipt.state != "accepted":
                return
            receipt.wait("searchable", timeout=30)
            memory = client.get(given["agent"], receipt.id)
            checked = MemoryItem.model_validate(given)
            for name in given.keys() - {"metadata", "id", "occurred_at"}:
                assert getattr(memory, name) == getattr(checked, name), name
            assert same(dict(memory.metadata), dict(checked.metadata))
            assert checked.occurred_at in (None, memory.occurred_at)
            assert receipt.id in {one.id for one in client.memories(memory.agent, include_superseded=True)}
            hits = client.recall(memory.agent, memory.content[:1000], limit=100, include_superseded=True)
            assert receipt.id in {hit.memory.id for hit in hits}
            try:
                changed = client.update(memory.agent, receipt.id, content=second)
            except InvalidInput as error:
                named(error)
                return
            assert changed.content == second
            assert [v.content for v in client.history(memory.agent, receipt.id)] == (
                [] if second == memory.content else [memory.content]
            )

        holds()


FILTERS = {
    "kinds": st.lists(TEXT, max_size=3) | VALUES,
    "tags": st.lists(TEXT, max_size=3) | VALUES,
    "since": TIMES,
    "until": TIMES,
    "thread": TEXT,
    "metadata": METADATA,
    "min_importance": NUMBERS,
    "pinned": LEAVES,
    "include_superseded": LEAVES,
    "limit": NUMBERS,
    "surprise": LEAVES,
}


@st.composite
def filters(draw: st.DrawFn) -> dict[str, Any]:
    """Some filters, with anything in them."""
    names = draw(st.lists(st.sampled_from(sorted(FILTERS)), max_size=3, unique=True))
    return {name: draw(FILTERS[name]) for name in names}


def test_any_question(ask: Callable[..., httpx.Response]) -> None:
    ask("POST", "/v1/memories", {"agent": "ada", "content": "green tea", "metadata": {"a": [1, "x"]}})

    @bounded
    @given(st.just("tea") | TEXT, filters(), st.just("ada") | TEXT, st.booleans())
    def holds(query: str, more: dict[str, Any], agent: str, several: bool) -> None:
        asked: dict[str, Any] = {"agents": [agent, "ada"]} if several else {"agent": agent}
        assert ask("POST", "/v1/recall", {**asked, "query": query, **more}).status_code in (200, 422)
        assert ask("POST", f"/v1/agents/{path_of('ada')}/forget", {**more, "dry_run": True}).status_code in (
            *(200, 422),
        )

    holds()


def test_any_list(ask: Callable[..., httpx.Response]) -> None:
    ask("POST", "/v1/memories", {"agent": "ada", "content": "green tea"})

    @bounded
    @given(st.just("ada") | TEXT, filters(), st.none() | TEXT | st.integers(-1, 10**20).map(str))
    def holds(agent: str, more: dict[str, Any], cursor: str | None) -> None:
        names = {"kinds": "kind", "tags": "tag"}
        params: list[tuple[str, str]] = [("agent", agent)] + ([] if cursor is None else [("cursor", cursor)])
        for name, value in more.items():
            given = json.dumps(value) if name == "metadata" else value
            params += [(names.get(name, name), str(one)) for one in (given if isinstance(given, list) else [given])]
        query = "&".join(f"{name}={quote(value.encode('utf-8', 'surrogatepass'), safe='')}" for name, value in params)
        assert ask("GET", f"/v1/memories?{query}").status_code in (200, 422)

    holds()


def test_any_name_in_a_path(ask: Callable[..., httpx.Response]) -> None:
    @bounded
    @given(TEXT, st.uuids().map(str) | TEXT, st.sampled_from(["", "/history"]))
    def holds(agent: str, id_: str, rest: str) -> None:
        name, id_ = (quote(text.encode("utf-8", "surrogatepass"), safe="") for text in (agent, id_))
        for method, path in [
            ("GET", f"/v1/memories/{name}/{id_}{rest}"),
            ("DELETE", f"/v1/memories/{name}/{id_}"),
            ("GET", f"/v1/receipts/{name}/{id_}"),
            ("DELETE", f"/v1/agents/{name}"),
            ("POST", f"/v1/agents/{name}/optimize"),
        ]:
            assert ask(method, path).status_code in (404, 405, 422), (method, path)

    holds()


RAW = st.binary(max_size=20) | st.sampled_from(
    [
        b"",
        b"%",
        b"%2",
        b"%zz",
        b"%00",
        b"%ff%fe",
        b"%c0%af",
        b"..%2f..",
        b"%2e%2e",
        b"//",
        b"/./..",
        b"%u0041",
        b"\xff",
        b";a=b",
    ]
)


def spoken(url: str, request: bytes) -> bytes:
    """What a gateway says to bytes, until it closes or is silent."""
    parts = urlsplit(url)
    seen = b""
    with socket.create_connection((parts.hostname, parts.port), timeout=30) as connection:
        try:
            connection.sendall(request)
            connection.shutdown(socket.SHUT_WR)
            while part := connection.recv(65536):
                seen += part
        except ConnectionError:
            pass
    return seen


def refused_or_served(seen: bytes) -> None:
    assert b"HTTP/1.1 5" not in seen, seen
    assert not seen or seen.startswith(b"HTTP/1.1 "), seen


METHODS = ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE", "CONNECT", "get", "BREW", ""]
PATHS = ["/v1/memories", "/v1/memories/ada/", "/v1/recall", "/v1/agents/", "/v1/admin/keys/", "/", "", "/docs", "*"]


def test_any_bytes_as_a_request_line(target: Target, key: str) -> None:
    @bounded
    @given(st.sampled_from(METHODS), st.sampled_from(PATHS), RAW, RAW)
    def holds(method: str, path: str, more: bytes, query: bytes) -> None:
        line = method.encode() + b" " + path.encode() + more + b"?" + query + b" HTTP/1.1\r\n"
        head = f"Host: x\r\nAuthorization: Bearer {key}\r\nConnection: close\r\n\r\n".encode()
        refused_or_served(spoken(target.url, line + head))

    holds()
    assert httpx.get(f"{target.url}/healthz").status_code == 200


NAMES = [
    *("Authorization", "Content-Type", "Content-Length", "Content-Encoding", "Transfer-Encoding", "Idempotency-Key"),
    *("Expect", "Accept", "Connection", "Upgrade", "Host", "X-Forwarded-For", "Range", "If-Match", "Traceparent"),
]
VALUE = (
    st.binary(max_size=30).map(lambda value: value.translate(None, b"\r\n\x00"))
    | st.sampled_from(
        [b"Bearer", b"Bearer ", b"Bearer \xff", b"Basic YTpi", b"bearer x y", b"gzip", b"GZIP, br", b"-1"]
    )
    | st.sampled_from([b"text/plain", b"application/json; charset=utf-16", b"chunked", b"0", b"1e3", b"100-continue"])
)


def test_any_header(target: Target, key: str) -> None:
    body = json.dumps({"agent": "ada", "content": "tea"}).encode()

    @bounded
    @given(st.dictionaries(st.sampled_from(NAMES), VALUE, max_size=4))
    def holds(more: dict[str, bytes]) -> None:
        usual = {"Host": b"x", "Authorization": f"Bearer {key}".encode(), "Content-Length": str(len(body)).encode()}
        lines = {**usual, "Connection": b"close", **more}
        head = b"".join(name.encode() + b": " + value + b"\r\n" for name, value in lines.items())
        refused_or_served(spoken(target.url, b"POST /v1/memories HTTP/1.1\r\n" + head + b"\r\n" + body))

    holds()
    assert httpx.get(f"{target.url}/healthz").status_code == 200


JSON_TEXTS = st.recursive(
    st.sampled_from(
        ["null", "true", "1", "-0.0", "1e400", "-1e400", "1e-400", "NaN", "Infinity", "9" * 400, "01", "+1"]
    )
    | TEXT.map(json.dumps)
    | st.sampled_from(['"\\ud800"', '"\\udc00\\ud800"', '"\\u0000"', '"\\x"', "'a'", '"\n"', "", "/* */"]),
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda parts: f"[{','.join(parts)}]")
        | st.lists(st.tuples(st.sampled_from(['"a"', '""', '"agent"', '"content"', "a"]), inner), max_size=4).map(
            lambda pairs: "{" + ",".join(f"{name}: {value}" for name, value in pairs) + "}"
        )
    ),
    max_leaves=8,
)
POSTS = ["/v1/memories", "/v1/recall", "/v1/receipts", "/v1/embeddings", "/v1/agents/ada/forget"]


def test_any_text_as_a_body(target: Target, key: str) -> None:
    """Also with a field twice, of which the last counts, and packed, which is not taken."""
    with httpx.Client(base_url=target.url, headers={"Authorization": f"Bearer {key}"}, timeout=60) as client:

        @bounded
        @given(st.sampled_from(POSTS), JSON_TEXTS, st.sampled_from(["utf-8", "utf-16", "utf-8-sig", "gzip"]))
        def holds(path: str, text: str, coding: str) -> None:
            given = f'{{"agent": "ada", "content": "tea", "metadata": {text}}}' if path == "/v1/memories" else text
            data = given.encode("utf-8" if coding == "gzip" else coding, "surrogatepass")
            if coding == "gzip":
                headers = {"Content-Encoding": "gzip"}
                assert client.post(path, content=gzip.compress(data), headers=headers).status_code == 400
                return
            in_order(client.post(path, content=data))

        holds()


def test_a_field_twice_is_the_last(ask: Callable[..., httpx.Response], target: Target, key: str) -> None:
    text = '{"agent": "x", "agent": "ada", "content": "tea", "metadata": {"a": 1, "a": 2, "": 3}}'
    answer = httpx.post(f"{target.url}/v1/memories", content=text, headers={"Authorization": f"Bearer {key}"})
    assert answer.json()["agent"] == "ada"
    here = f"ada/{answer.json()['id']}"
    ask("GET", f"/v1/receipts/{here}", params={"wait": "stored"})
    assert ask("GET", f"/v1/memories/{here}").json()["metadata"] == {"a": 2, "": 3}
