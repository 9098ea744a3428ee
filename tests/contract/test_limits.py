"""Limits at the gateway: what an operator sets, and how what is over it is answered."""

import re
from base64 import b64encode
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from random import randbytes
from typing import Any

import httpx
import pytest
import redis

from memlane import Client
from memlane.admin import Admin
from memlane.config.settings import Settings, WorkerClassName
from memlane.contract.status import TenantLimits
from memlane.embedded.redis import Redis
from memlane.errors import BudgetExceeded, InvalidInput, NotFound, RateLimited
from memlane.storage import tenants
from memlane.storage.roles import WORKER
from memlane.tasks import producers
from memlane.tasks.counts import OwnCounts
from memlane.tasks.lane import Lane
from memlane.tasks.rates import Rates
from memlane.workers.app import make_app
from memlane.workers.lifecycle import Lifecycle
from tests.commands import Run, document
from tests.contract.conftest import serving
from tests.contract.test_gateway import problem
from tests.support import MakeSettings, as_role, drain_all, eventually, sql


@pytest.fixture(autouse=True)
def nothing_counted(redis_server: Redis) -> None:
    """The tests share a Redis, and call their tenants alike."""
    with redis.Redis.from_url(redis_server.uri(1)) as client:
        for key in client.scan_iter("memlane:rate:*"):
            client.delete(key)


@pytest.fixture
def admin(gateway: str, admin_key: str, tenant_key: str) -> Iterator[Admin]:
    """An operator, of a cluster with tenant `acme`."""
    assert tenant_key
    made = Admin(gateway, admin_key)
    yield made
    made.close()


def memories(*agents: str) -> dict[str, Any]:
    return {"memories": [{"agent": agent, "content": f"tea {number}"} for number, agent in enumerate(agents)]}


def post(http: httpx.Client, *agents: str, **more: Any) -> httpx.Response:
    return http.post("/v1/memories", json={**memories(*agents), **more})


def quota(answer: httpx.Response) -> dict[str, dict[str, int]]:
    """The two headers as they are meant."""
    found: dict[str, dict[str, int]] = {}
    for header in ("ratelimit-policy", "ratelimit"):
        for part in answer.headers.get(header, "").split(", ") if header in answer.headers else ():
            match = re.fullmatch(r'"(\w+)"((?:;[a-z]=\d+)+)', part)
            assert match, answer.headers[header]
            values = dict(pair.split("=") for pair in match[2][1:].split(";"))
            found.setdefault(match[1], {}).update({name: int(value) for name, value in values.items()})
    return found


def test_limits_are_set_shown_and_taken_back(admin: Admin) -> None:
    assert admin.set_limits("acme", rate=600, weight=3) == TenantLimits(weight=3, rate=600)
    assert admin.set_limits("acme", rate=None, agent_rate=60, open_jobs=5000) == TenantLimits(3, None, 60, 5000)
    assert admin.set_limits("acme") == TenantLimits(3, None, 60, 5000)
    assert {t.tenant: t.limits for t in admin.tenants()} == {"acme": TenantLimits(3, None, 60, 5000)}
    with pytest.raises(NotFound):
        admin.set_limits("nobody", rate=1)


BAD: list[tuple[str, Any]] = [
    ("rate", 0),
    ("rate", -1),
    ("rate", float("nan")),
    ("rate", float("inf")),
    ("rate", 1.5),
    ("rate", "600"),
    ("rate", True),
    ("agent_rate", 10**10),
    ("open_jobs", 10**13),
    ("weight", 1001),
    ("weight", 0),
    ("speed", 1),
]


def test_bad_limits_are_named(admin: Admin) -> None:
    for name, value in BAD:
        with pytest.raises(InvalidInput) as caught:
            admin.set_limits("acme", **{name: value})
        assert [error.field for error in caught.value.fields] == [name], value
    assert admin.tenants()[0].limits == TenantLimits()


def test_limits_by_the_command_line(admin: Admin, gateway: str, admin_key: str, run: Run) -> None:
    assert admin
    known = {"MEMLANE_URL": gateway, "MEMLANE_API_KEY": admin_key}
    arguments = ("--rate", "6000", "--agent-rate", "600", "--open-jobs", "50000", "--weight", "3")
    run("tenants", "limit", "acme", *arguments, **known)
    found = document(run("tenants", "limit", "acme", "--rate", "none", "--json", **known))
    assert found == {"weight": 3, "agent_rate": 600, "open_jobs": 50000}
    assert "50000" in run("tenants", "list", **known).stdout
    for bad in ("0", "-5", "nan", "fast", "1e3"):
        refused = run("tenants", "limit", "acme", f"--rate={bad}", code=None, **known)
        assert refused.returncode != 0, bad
        assert "rate" in refused.stderr, bad


def test_what_is_held_back_is_shown(admin: Admin, lane: Lane, gateway: str, admin_key: str, run: Run) -> None:
    rates = Rates(lambda _: TenantLimits(agent_rate=1), OwnCounts())
    items = [{"agent": "ada", "content": f"tea {number}"} for number in range(3)]
    for number, item in enumerate(items):
        producers.deliver(lane, "memory.remember", {"tenant": "acme", **item}, f"m{number}", rates)
    (shown,) = admin.status().strays
    assert (shown.reason, shown.count) == ("held: over the agent's rate", 2)
    eventually(lambda: 'memlane_held_messages{limit="agent"} 2.0' in httpx.get(f"{gateway}/metrics").text, 60)
    assert 'memlane_held_messages{limit="tenant"} 0.0' in httpx.get(f"{gateway}/metrics").text
    listed = run("jobs", "strays", "list", MEMLANE_URL=gateway, MEMLANE_API_KEY=admin_key).stdout
    assert "room" in listed
    assert admin.drop_strays([stray.id for stray in admin.strays_page().strays]) == 0, "they wait, and are good"


def test_over_a_budget_that_refuses(
    admin: Admin, settings: Settings, http: httpx.Client, gateway: str, tenant_key: str
) -> None:
    assert admin
    refusing_budget(settings)

    def refuses() -> bool:
        return post(http, "ada", "bob").json().get("code") == "budget_exceeded" or bool(
            http.post("/v1/memories", json={"agent": "ada", "content": " ".join(["x"] * 30)}).status_code == 402
        )

    eventually(refuses)
    with Client(gateway, tenant_key) as client:
        with pytest.raises(BudgetExceeded) as caught:
            client.remember("ada", " ".join(["y"] * 30))
        assert (caught.value.spent_micro, caught.value.limit_micro) == (0, 20)
        assert caught.value.resets_at is not None
        assert caught.value.resets_at > datetime.now(UTC)
        batch = client.remember_many(
            [{"agent": "ada", "content": "tea"}, {"agent": "ada", "content": " ".join(["z"] * 30)}]
        )
        assert [(r.index, r.status, r.limit_micro, r.retryable) for r in batch.rejections] == [(1, 402, 20, False)]
        assert batch.receipts[0] is not None
    problem(http.post("/v1/memories", json={"agent": "a", "content": " ".join(["w"] * 40)}), 402, "budget_exceeded")
    metrics = httpx.get(f"{gateway}/metrics").text
    assert re.search(r'memlane_limited_total\{limit="budget"\} [3-9]', metrics)


def refusing_budget(settings: Settings) -> None:
    """Tenant `acme` has a budget of 20 micro-dollars, at one for each token."""
    with sql(settings) as connection:
        connection.execute("UPDATE control.prices SET micro_per_million = 1000000 WHERE model = 'hash'")
        connection.execute("SELECT control.set_budget('acme', '', 'month', 20, 'reject')")


def test_the_first_after_a_start_meet_their_budget(settings: Settings, tenant_key: str) -> None:
    refusing_budget(settings)
    headers = {"Authorization": f"Bearer {tenant_key}"}
    with serving(settings) as url, httpx.Client(base_url=url, headers=headers, timeout=30) as http:
        wanted = [{"agent": f"a{n}", "content": " ".join(["x"] * 30)} for n in range(8)]
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda one: http.post("/v1/memories", json=one).status_code, wanted))
    assert answers == [402] * 8


@pytest.mark.parametrize("kind", list(WorkerClassName))
def test_workers_that_take_memories_in_know_budgets_before(
    settings: Settings, tenant_key: str, kind: WorkerClassName
) -> None:
    assert tenant_key
    refusing_budget(settings)
    settings = as_role(settings, WORKER).model_copy(update={"worker_class": kind})
    life = Lifecycle(make_app(settings), settings)
    life.begin()
    try:
        look = life.process.lane.cluster.rooms._look
        assert (look._thread is not None) == (kind in (WorkerClassName.INGEST, WorkerClassName.SWEEP))
        assert ("acme" in look._value.rooms) == (look._thread is not None)
    finally:
        life.end()


def test_over_the_cap_of_open_jobs(admin: Admin, gateway: str, tenant_key: str, http: httpx.Client) -> None:
    """The client sends again what there was no room for, and it is in when there is."""
    admin.set_limits("acme", open_jobs=3)
    eventually(lambda: post(http, *["zoe"] * 10).status_code in (202, 429) and post(http, "zoe").status_code == 429)
    over = post(http, "ada")
    assert "cap of 3 open jobs" in problem(over, 429, "rate_limited")["detail"]
    assert over.headers["retry-after"] == "2"
    with Client(gateway, tenant_key) as client, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(client.remember, "ada", "tea")
        admin.set_limits("acme", open_jobs=1000)
        assert waiting.result(60).state == "accepted"


def test_over_what_an_agent_may_have_open(make_settings: MakeSettings, make_lane: Callable[[Settings], Lane]) -> None:
    """Its memories are sent again by the client until there is room; other agents' are taken in."""
    settings = make_settings(agent_open_mb=1)
    lane = make_lane(settings)
    tenants.create_tenant(lane.cluster.control, "acme")
    key = tenants.create_key(lane.cluster.control, "acme")
    large = [{"agent": "ada", "content": b64encode(randbytes(24_000)).decode()} for _ in range(40)]
    headers = {"Authorization": f"Bearer {key}"}
    with serving(settings) as url, httpx.Client(base_url=url, headers=headers, timeout=30) as http:
        never = http.post("/v1/memories", json={"memories": large, "atomic": True})
        assert "can never pass the 1 MiB" in problem(never, 422, "invalid_input")["detail"]
        answer = http.post("/v1/memories", json={"memories": large}).json()
        assert [(r["status"], r["retryable"]) for r in answer["rejections"]] == [(429, True)] * 8
        over = http.post("/v1/memories", json=large[-1])
        body = problem(over, 429, "rate_limited")
        assert (body["limit"], body["detail"]) == ("agent_open_bytes", "over the 1 MiB that an agent may have open")
        assert over.headers["retry-after"] == "2"
        assert post(http, "bob").status_code == 202
        assert 'memlane_limited_total{limit="agent_open_bytes"} 9.0' in http.get("/metrics").text
        eventually(lambda: 'memlane_held_messages{limit="agent_open_bytes"} 0.0' in http.get("/metrics").text, 60)
        drain_all(lane)
        with Client(url, key) as client:
            assert client.remember("ada", large[-1]["content"]).state == "accepted"


def test_over_the_tenants_rate(admin: Admin, http: httpx.Client) -> None:
    assert quota(post(http, "ada")) == {}
    admin.set_limits("acme", rate=10)
    eventually(lambda: bool(quota(post(http, "ada"))))
    first = post(http, "ada")
    left = quota(first)["tenant"]["r"]
    assert quota(first) == {"tenant": {"q": 10, "w": 60, "r": left, "t": quota(first)["tenant"]["t"]}}
    assert 0 < quota(first)["tenant"]["t"] <= 60
    assert post(http, *["ada"] * left).status_code == 202
    over = post(http, "ada", "bob")
    assert "10 items a minute" in problem(over, 429, "rate_limited")["detail"]
    assert 1 <= int(over.headers["retry-after"]) <= 60
    assert quota(over)["tenant"]["r"] == 0
    one = http.post("/v1/memories", json={"agent": "ada", "content": "tea"})
    problem(one, 429, "rate_limited")
    bad = http.post("/v1/memories", json={"agent": "ada"})
    problem(bad, 422, "invalid_input")
    assert quota(bad)["tenant"]["q"] == 10
    large = post(http, *["ada"] * 11)
    assert "never pass the tenant's rate of 10" in problem(large, 422, "invalid_input")["detail"]
    atomic = post(http, "ada", atomic=True)
    problem(atomic, 429, "rate_limited")
    metrics = httpx.get(f"{http.base_url}/metrics").text
    assert re.search(r'memlane_limited_total\{limit="tenant"\} 4\.0', metrics)
    assert "memlane_rates_shared 1.0" in metrics


def test_agents_that_are_over_come_back_and_the_others_are_taken_in(admin: Admin, http: httpx.Client) -> None:
    admin.set_limits("acme", agent_rate=3, rate=1000)
    eventually(lambda: bool(quota(post(http, "zoe"))))
    answer = post(http, "ada", "bob", "ada", "ada", "bob")
    assert answer.status_code == 202
    assert quota(answer)["agent"] == {"q": 3, "w": 60, "r": 0, "t": quota(answer)["agent"]["t"]}
    answer = post(http, "ada", "bob", "eve", "eve", "eve", "eve")
    body = answer.json()
    assert [receipt and receipt["agent"] for receipt in body["receipts"]] == [None, "bob", None, None, None, None]
    assert [(r["index"], r["status"], r["retryable"]) for r in body["rejections"]] == [
        (0, 429, True),
        *((index, 422, False) for index in (2, 3, 4, 5)),
    ]
    assert body["rejections"][0]["retry_after_s"] > 0
    assert "agent" in body["rejections"][0]["detail"]


def test_rates_that_are_set_for_all(make_settings: MakeSettings, make_lane: Callable[[Settings], Lane]) -> None:
    settings = make_settings(tenant_rate=5, agent_rate=4)
    lane = make_lane(settings)
    tenants.create_tenant(lane.cluster.control, "acme")
    key = tenants.create_key(lane.cluster.control, "acme")
    with serving(settings) as url, Client(url, key, retries=0) as client:
        client.remember_many([{"agent": "ada", "content": f"tea {n}"} for n in range(4)])
        with pytest.raises(RateLimited) as caught:
            client.remember("ada", "more tea")
        assert caught.value.retry_after_s >= 1
        client.remember("bob", "tea")
        with pytest.raises(RateLimited):
            client.remember("eve", "tea")


def test_two_gateways_count_together(settings: Settings, http: httpx.Client, admin: Admin) -> None:
    admin.set_limits("acme", rate=20)
    with serving(settings) as other, httpx.Client(base_url=other, headers=http.headers) as second:
        eventually(lambda: bool(quota(post(http, "ada"))) and bool(quota(post(second, "ada"))))
        left = quota(post(http, "ada"))["tenant"]["r"]
        assert quota(post(second, "ada"))["tenant"]["r"] == left - 1
