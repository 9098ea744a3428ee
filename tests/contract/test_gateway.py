"""The HTTP API itself: bodies that are wrong in every way, keys, probes, receipts that are waited for."""

import json
import re
import shlex
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter
from typing import Any
from uuid import uuid4

import httpx
import pytest

from memlane import Client
from memlane.config.settings import Settings
from memlane.errors import Forbidden, NotFound, Unauthorized
from memlane.gateway.description import curl, read_description
from memlane.gateway.problems import Problem
from memlane.storage import processes, tenants
from memlane.tasks import producers
from memlane.tasks.lane import Lane
from tests.contract.conftest import serving
from tests.support import MakeSettings, count_rows, eventually

ONE: dict[str, Any] = {"agent": "ada", "content": "tea"}


def problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """An answer that has to be a problem."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    found: dict[str, Any] = answer.json()
    Problem.model_validate(found)
    assert (found["status"], found["code"]) == (status, code)
    return found


def test_one_memory_by_plain_http(http: httpx.Client) -> None:
    answer = http.post("/v1/memories", json={**ONE, "key": "k"})
    assert answer.status_code == 202
    assert answer.json()["state"] == "accepted"
    again = http.post("/v1/memories", json={**ONE, "key": "k"})
    assert again.status_code == 200
    assert (again.json()["state"], again.json()["first"]) == ("duplicate", "accepted")
    conflict = http.post("/v1/memories", json={**ONE, "key": "k", "content": "coffee"})
    assert problem(conflict, 409, "conflict")["first"] == answer.json()["id"]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "malformed"),
        (b"{", 400, "malformed"),
        (b"\xff\xfe", 400, "malformed"),
        (b"[" * 100_000, 400, "malformed"),
        (b"[]", 422, "invalid_input"),
        (b"null", 422, "invalid_input"),
        (b'"tea"', 422, "invalid_input"),
        (b"{}", 422, "invalid_input"),
        (b'{"memories": []}', 422, "invalid_input"),
        (b'{"memories": {}}', 422, "invalid_input"),
        (b'{"memories": [{"agent": "a", "content": "x"}], "atomic": 1}', 422, "invalid_input"),
        (b'{"memories": [{"agent": "a", "content": "x"}], "other": 1}', 422, "invalid_input"),
    ],
)
def test_bodies_that_are_none(http: httpx.Client, body: bytes, status: int, code: str) -> None:
    problem(http.post("/v1/memories", content=body), status, code)


@pytest.mark.parametrize(
    ("text", "field"),
    [
        (r'"content": "\ud800"', "content"),
        (r'"content": "a\u0000b"', "content"),
        ('"content": "x", "importance": NaN', "importance"),
        ('"content": "x", "importance": 1e999', "importance"),
        ('"content": "x", "metadata": {"x": NaN}', "metadata"),
        ('"content": "x", "metadata": {"x": ' + "[" * 500 + "]" * 500 + "}", None),
        ('"content": "x", "importance": ' + "9" * 5000, "importance"),
    ],
)
def test_json_of_the_worst_kind_harms_only_its_item(http: httpx.Client, text: str, field: str | None) -> None:
    body = '{"memories": [{"agent": "ada", "content": "good"}, {"agent": "ada", ' + text + "}]}"
    answer = http.post("/v1/memories", content=body.encode())
    if answer.status_code == 400:  # numbers of 5,000 digits are no JSON that Python reads
        assert answer.json()["code"] == "malformed"
        return
    assert answer.status_code == 202, answer.text
    receipts = answer.json()["receipts"]
    assert receipts[0]["state"] == "accepted"
    if field is not None:
        assert receipts[1] is None
        assert [(r["index"], r["field"]) for r in answer.json()["rejections"]] == [(1, field)]


def test_a_body_over_the_limit_is_not_read_to_its_end(make_settings: MakeSettings) -> None:
    settings = make_settings(max_body_bytes=10_000)
    with serving(settings) as url, httpx.Client(base_url=url, timeout=10) as client:
        key = _key(settings)
        headers = {"Authorization": f"Bearer {key}"}
        problem(client.post("/v1/memories", content=b"x" * 20_000, headers=headers), 413, "too_large")

        def endless() -> Any:
            for _ in range(1000):
                yield b" " * 1000

        problem(client.post("/v1/memories", content=endless(), headers=headers), 413, "too_large")


def _key(settings: Settings) -> str:
    lane = Lane(settings, "test")
    lane.open()
    tenants.create_tenant(lane.cluster.control, "acme")
    key = tenants.create_key(lane.cluster.control, "acme")
    lane.close()
    return key


@pytest.mark.parametrize(
    "header", [None, "", "Bearer", "Bearer nonsense", "Basic abc", f"Bearer mlk_{'0' * 12}_{'0' * 48}"]
)
def test_without_a_good_key(gateway: str, header: str | None) -> None:
    headers = {} if header is None else {"Authorization": header}
    answer = httpx.post(f"{gateway}/v1/memories", json=ONE, headers=headers)
    problem(answer, 401, "unauthorized")
    assert answer.headers["www-authenticate"] == "Bearer"


def test_a_revoked_key(make_settings: MakeSettings) -> None:
    settings = make_settings(key_cache_s=0.05)
    key = _key(settings)
    lane = Lane(settings, "test")
    lane.open()
    with serving(settings) as url, Client(url, key, retries=0) as client:
        client.remember("ada", "tea")
        tenants.revoke_key(lane.cluster.control, key.split("_")[1])
        with pytest.raises(Unauthorized):
            eventually(lambda: client.ledger() is None, 5)
    lane.close()


def test_a_tenant_sees_nothing_of_another(
    lane: Lane, worker: None, made_client: Callable[..., Client], tenant_key: str
) -> None:
    assert worker is None
    tenants.create_tenant(lane.cluster.control, "rival")
    acme, rival = made_client(tenant_key), made_client(tenants.create_key(lane.cluster.control, "rival"))
    receipt = acme.remember("ada", "secret tea", key="k").wait("searchable")
    assert rival.recall("ada", "secret tea").hits == ()
    assert list(rival.memories("ada")) == []
    for call in (rival.get, rival.receipt, rival.forget):
        with pytest.raises(NotFound):
            call("ada", receipt.id)
    for agent_call in (rival.forget_agent, rival.optimize):
        with pytest.raises(NotFound):
            agent_call("ada")
    assert rival.ledger().events != acme.ledger().events
    assert rival.remember("ada", "other tea", key="k").id != receipt.id
    assert acme.get("ada", receipt.id).content == "secret tea"


def test_admin_and_tenant_keys_are_apart(
    gateway: str, made_client: Callable[..., Client], admin_key: str, http: httpx.Client
) -> None:
    for path in ("/v1/admin/status", "/v1/admin/tenants", "/v1/admin/keys", "/v1/admin/shards"):
        problem(http.get(path), 403, "forbidden")
        assert httpx.get(f"{gateway}{path}", headers={"Authorization": f"Bearer {admin_key}"}).status_code == 200
    with pytest.raises(Forbidden):
        made_client(admin_key).remember("ada", "tea")
    assert made_client(admin_key).ledger().balanced


def test_unknown_paths_and_methods(http: httpx.Client) -> None:
    problem(http.get("/v1/nothing"), 404, "not_found")
    problem(http.put("/v1/memories"), 405, "method_not_allowed")
    problem(http.get("/v1/memories/ada/not-an-id"), 422, "invalid_input")
    problem(http.get("/v1/memories"), 422, "invalid_input")
    problem(http.get("/v1/memories?agent=a&limit=0"), 422, "invalid_input")
    problem(http.get("/v1/memories?agent=a&metadata=nonsense"), 422, "invalid_input")
    problem(http.get("/v1/memories?agent=a&since=nonsense"), 422, "invalid_input")
    problem(http.get("/v1/memories?agent=a%00b"), 422, "invalid_input")


def test_probes_need_no_key(gateway: str) -> None:
    assert httpx.get(f"{gateway}/healthz").json() == {"status": "alive"}
    assert httpx.get(f"{gateway}/readyz").json() == {"ready": True, "nodes_down": []}


def test_a_gateway_says_how_full_the_memory_around_it_is(gateway: str, lane: Lane) -> None:
    def told() -> list[float]:
        living = [one for one in processes.living(lane.cluster.control) if one.class_ == "gateway"]
        return [one.gauges.get('memlane_memory_percent{class="gateway"}', 0.0) for one in living]

    assert gateway
    eventually(lambda: any(0 < percent <= 100 for percent in told()))


def test_metrics(gateway: str, http: httpx.Client, lane: Lane) -> None:
    producers.deliver(lane, "memory.remember", {"tenant": "acme", "nonsense": 1}, "m1")
    http.post("/v1/memories", json={"memories": [ONE, {**ONE, "key": "k"}]})
    http.get("/v1/nothing/at/all")
    wanted = (
        'memlane_strays{task="memory.remember"} 1.0',
        'memlane_jobs{kind="remember",state="open"} 2.0',
        "memlane_ledger_difference 0.0",
        f'memlane_knob{{knob="claim_size"}} {float(lane.settings.claim_size)}',
    )

    def told() -> str:
        return httpx.get(f"{gateway}/metrics").text

    eventually(lambda: all(series in told() for series in wanted), 90)
    text = told()
    assert 'memlane_requests_total{method="POST",route="/v1/memories",status="202"} 1.0' in text
    assert 'memlane_items_total{outcome="accepted"} 2.0' in text
    assert 'memlane_shards{state="up"} 4.0' in text
    assert "at/all" not in text


def test_a_receipt_is_waited_for(http: httpx.Client, worker: None) -> None:
    assert worker is None
    id_ = http.post("/v1/memories", json=ONE).json()["id"]
    answer = http.get(f"/v1/receipts/ada/{id_}", params={"wait": "searchable", "timeout": 10})
    assert answer.json()["state"] == "searchable"
    problem(http.get(f"/v1/receipts/ada/{uuid4()}", params={"wait": "stored"}), 404, "not_found")
    problem(http.get(f"/v1/receipts/ada/{id_}", params={"wait": "tomorrow"}), 422, "invalid_input")
    problem(http.get(f"/v1/receipts/ada/{id_}", params={"timeout": 61}), 422, "invalid_input")


def test_waiting_ends_with_the_time(http: httpx.Client) -> None:
    id_ = http.post("/v1/memories", json=ONE).json()["id"]
    begun = perf_counter()
    answer = http.get(f"/v1/receipts/ada/{id_}", params={"wait": "stored", "timeout": 0.3})
    assert answer.json()["state"] == "accepted"
    assert perf_counter() - begun >= 0.3


def test_many_wait_at_once(http: httpx.Client, worker: None) -> None:
    assert worker is None

    def one(number: int) -> str:
        id_ = http.post("/v1/memories", json={"agent": f"agent-{number % 9}", "content": f"tea {number}"}).json()["id"]
        answer = http.get(f"/v1/receipts/agent-{number % 9}/{id_}", params={"wait": "searchable", "timeout": 20})
        return str(answer.json()["state"])

    with ThreadPoolExecutor(20) as pool:
        assert set(pool.map(one, range(60))) == {"searchable"}


def test_accesses_are_counted_off_the_path(http: httpx.Client, worker: None, settings: Settings, lane: Lane) -> None:
    assert worker is None
    id_ = http.post("/v1/memories", json=ONE).json()["id"]
    http.get(f"/v1/receipts/ada/{id_}", params={"wait": "searchable"})
    for _ in range(3):
        assert len(http.post("/v1/recall", json={"agent": "ada", "query": "tea"}).json()["hits"]) == 1
    eventually(lambda: count_rows(settings, lane.cluster, "memory_stats", "access_count = 3") == 1)


def test_recall_says_what_it_took(http: httpx.Client) -> None:
    answer = http.post("/v1/recall", json={"agent": "ada", "query": "tea"})
    assert answer.headers["server-timing"].startswith("embed;dur=")


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({}, "agent"),
        ({"agent": None}, "agent"),
        ({"agents": []}, "agents"),
        ({"agents": "ada"}, "agents"),
        ({"agents": ["ada", "ada"]}, "agents"),
        ({"agent": "ada", "agents": ["bob"]}, "agents"),
        ({"agent": "ada", "all_agents": True}, "agents"),
        ({"all_agents": False}, "agent"),
        ({"all_agents": "yes"}, "all_agents"),
        ({"agent": "*", "agents": ["*"]}, "agents"),
    ],
)
def test_a_recall_is_of_one_agent_or_of_several(http: httpx.Client, asked: dict[str, Any], field: str) -> None:
    answer = http.post("/v1/recall", json={"query": "tea", **asked})
    assert [error["field"] for error in problem(answer, 422, "invalid_input")["errors"]] == [field]


def test_a_node_that_is_down_is_503_with_retry_after(settings: Settings, lane: Lane, tenant_key: str) -> None:
    agent = next(
        f"a{n}" for n in range(100) if lane.cluster.shard(lane.cluster.shard_of("acme", f"a{n}")).node.name == "node-2"
    )
    broken = settings.model_copy(
        update={"nodes": {**settings.nodes, "node-2": type(settings.nodes["node-2"])("postgresql://127.0.0.1:1/x")}}
    )
    with (
        serving(broken) as url,
        httpx.Client(base_url=url, headers={"Authorization": f"Bearer {tenant_key}"}) as client,
    ):
        answer = client.post("/v1/memories", json={**ONE, "agent": agent}, timeout=10)
        problem(answer, 503, "unavailable")
        assert int(answer.headers["retry-after"]) >= 1
        problem(client.post("/v1/recall", json={"agent": agent, "query": "tea"}, timeout=10), 503, "unavailable")
        mixed = [{"agent": f"a{n}", "content": "tea"} for n in range(20)]
        answer = client.post("/v1/memories", json={"memories": mixed}, timeout=10)
        assert answer.status_code == 202
        assert {r["status"] for r in answer.json()["rejections"]} == {503}
        assert all(r["retryable"] for r in answer.json()["rejections"])
        assert client.get("/readyz").json() == {"ready": True, "nodes_down": ["node-2"]}


def test_a_name_in_a_path_is_taken_whole(http: httpx.Client) -> None:
    """Starlette's own convertor would take `ada` for `ada` and a line break."""
    http.post("/v1/memories", json=ONE)
    for line_break in ("%0A", "%0D%0A"):
        problem(http.delete(f"/v1/agents/{ONE['agent']}{line_break}"), 422, "invalid_input")
    assert http.get("/v1/ledger").json()["events"].get("forgotten", 0) == 0
    assert http.delete(f"/v1/agents/{ONE['agent']}").status_code == 202


def test_a_parameter_that_is_misspelled_is_refused(http: httpx.Client) -> None:
    answer = http.get("/v1/memories", params={"agent": "ada", "kinds": "fact", "nonsense": "1"})
    problem(answer, 422, "invalid_input")
    assert [error["field"] for error in answer.json()["errors"]] == ["kinds", "nonsense"]
    assert http.get("/v1/ledger", params={"tenant": "acme"}).status_code == 422


def test_metadata_that_goes_deep(http: httpx.Client) -> None:
    for depth in (40, 256, 900):
        deep = json.loads('{"a":' * depth + "1" + "}" * depth)
        problem(http.post("/v1/memories", json={**ONE, "metadata": deep}), 422, "invalid_input")


def test_nul_on_the_admins_routes(gateway: str, admin_key: str) -> None:
    with httpx.Client(base_url=gateway, headers={"Authorization": f"Bearer {admin_key}"}) as admin:
        problem(admin.post("/v1/admin/keys", json={"label": "\x00"}), 422, "invalid_input")
        problem(admin.get("/v1/admin/keys", params={"tenant": "\x00"}), 422, "invalid_input")
        problem(admin.delete("/v1/admin/keys/%00"), 422, "invalid_input")


def test_the_api_describes_itself(gateway: str) -> None:
    document = httpx.get(f"{gateway}/openapi.json").json()
    assert set(document["paths"]) >= {
        "/v1/memories",
        "/v1/memories/{agent}/{id}",
        "/v1/receipts/{agent}/{id}",
        "/v1/receipts",
        "/v1/recall",
        "/v1/embeddings",
        "/v1/agents/{agent}/optimize",
        "/v1/agents/{agent}",
        "/v1/ledger",
        "/healthz",
        "/readyz",
        "/metrics",
    }
    assert document["components"]["securitySchemes"] == {"key": {"type": "http", "scheme": "bearer"}}
    assert document["paths"]["/v1/recall"]["post"]["security"] == [{"key": []}]
    assert "security" not in document["paths"]["/healthz"]["get"]


def test_the_page_for_people_has_no_script_and_loads_nothing(gateway: str) -> None:
    answer = httpx.get(f"{gateway}/docs")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["content-security-policy"].startswith("default-src 'none'; style-src 'sha256-")
    for path in httpx.get(f"{gateway}/openapi.json").json()["paths"]:
        assert path in answer.text
    assert not re.search(r"<(script|link|img|iframe|form)|//|@import|url\(", answer.text)
    assert httpx.get(f"{gateway}/redoc").status_code == 404


def test_the_examples_that_the_api_shows_are_taken(gateway: str, http: httpx.Client) -> None:
    api = read_description(httpx.get(f"{gateway}/openapi.json").json())
    shown = {(one.method, one.path): curl(one, api.types) for one in api.endpoints}
    for path, status in (("/v1/memories", 202), ("/v1/recall", 200), ("/v1/embeddings", 202)):
        words = shlex.split(shown["POST", path])
        assert words[:2] == ["curl", "-s"]
        assert words[words.index("-H") + 1] == "Authorization: Bearer $MEMLANE_API_KEY"
        url = words[2].replace("$MEMLANE_URL", gateway)
        assert http.post(url, content=words[words.index("-d") + 1]).status_code == status
    page = shlex.split(shown["GET", "/v1/memories"])[2].replace("$MEMLANE_URL", gateway)
    assert http.get(page).json() == {"memories": []}


def test_status_tells_of_everything(gateway: str, admin_key: str, http: httpx.Client) -> None:
    http.post("/v1/memories", json=ONE)
    found = httpx.get(f"{gateway}/v1/admin/status", headers={"Authorization": f"Bearer {admin_key}"}).json()
    assert [node["name"] for node in found["nodes"]] == ["node-1", "node-2"]
    assert found["nodes"][0]["settings"]["fsync"] == "on"
    assert found["broker"]["settings"]["appendfsync"] == "always"
    assert [(j["kind"], j["open"]) for j in found["jobs"]] == [("remember", 1)]
    assert len(found["shards"]) == 4


def test_a_shard_that_there_is_none_of(gateway: str, admin_key: str) -> None:
    for number in (4, -1, 10**30):
        answer = httpx.post(
            f"{gateway}/v1/admin/shards/{number}/optimize", headers={"Authorization": f"Bearer {admin_key}"}
        )
        problem(answer, 404, "not_found")


def test_tenants_and_keys(gateway: str, admin_key: str) -> None:
    with httpx.Client(base_url=gateway, headers={"Authorization": f"Bearer {admin_key}"}) as admin:
        assert admin.post("/v1/admin/tenants", json={"tenant": "new"}).json() == {"tenant": "new", "created": True}
        assert admin.post("/v1/admin/tenants", json={"tenant": "new"}).json() == {"tenant": "new", "created": False}
        problem(admin.post("/v1/admin/tenants", json={"tenant": "No"}), 422, "invalid_input")
        problem(admin.post("/v1/admin/keys", json={"tenant": "nobody"}), 404, "not_found")
        key = admin.post("/v1/admin/keys", json={"tenant": "new", "label": "app"}).json()["key"]
        (shown,) = admin.get("/v1/admin/keys", params={"tenant": "new"}).json()
        assert shown["label"] == "app"
        assert key not in json.dumps(admin.get("/v1/admin/keys").json())
        assert httpx.get(f"{gateway}/v1/ledger", headers={"Authorization": f"Bearer {key}"}).status_code == 200
        assert admin.delete(f"/v1/admin/keys/{shown['prefix']}").status_code == 200
        assert httpx.get(f"{gateway}/v1/ledger", headers={"Authorization": f"Bearer {key}"}).status_code == 401
        problem(admin.delete(f"/v1/admin/keys/{shown['prefix']}"), 404, "not_found")
