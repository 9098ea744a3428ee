"""Budgets, usage and prices over HTTP: an operator sets them, a tenant sees its own and nothing of others."""

import asyncio
import json
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from memlane import AsyncClient, Client
from memlane.admin import Admin
from memlane.client.front import Front
from memlane.config.settings import Settings
from memlane.contract.cost import SHIPPED_PRICES, AtLimit, Period, Price
from memlane.errors import Forbidden, InvalidInput, NotFound
from memlane.storage import jobs, tenants
from memlane.storage.cluster import Shard
from memlane.storage.jobs import Kind
from memlane.storage.spending import OVER_BUDGET
from memlane.tasks.lane import Lane
from tests.contract.conftest import serving
from tests.contract.test_gateway import problem
from tests.money import MODEL, Call, reserved, spend
from tests.support import count_rows, drain_all, eventually, item, remembered, sql

TODAY = datetime.now(UTC).date


@pytest.fixture
def admin(gateway: str, admin_key: str, tenant_key: str, lane: Lane) -> Iterator[Admin]:
    """The admin's client; there are the tenants `acme` and `rival`."""
    assert tenant_key
    tenants.create_tenant(lane.cluster.control, "rival")
    made = Admin(gateway, admin_key)
    yield made
    made.close()


@pytest.fixture
def ask(gateway: str, admin_key: str, admin: Admin) -> Iterator[httpx.Client]:
    """Plain HTTP with the admin key, for what the SDK would never send."""
    assert admin
    with httpx.Client(base_url=gateway, headers={"Authorization": f"Bearer {admin_key}"}, timeout=20) as client:
        yield client


def spent(settings: Settings, *calls: Call) -> None:
    """These calls were made."""
    with sql(settings) as connection:
        for call in calls:
            assert spend(connection, call)


def moved_to(settings: Settings, day: date, tenant: str) -> None:
    """What a tenant has used, it used on another day."""
    with sql(settings) as connection:
        connection.execute("UPDATE control.usage SET day = %s WHERE tenant = %s", (day, tenant))


def test_a_budget_is_set_seen_changed_and_taken_away(admin: Admin, settings: Settings) -> None:
    spent(settings, Call(tokens=50 * 30))
    made = admin.set_budget("acme", 100, period="day", at_limit="reject")
    assert (made.tenant, made.agent, made.period, made.at_limit) == ("acme", None, Period.DAY, AtLimit.REJECT)
    assert (made.spent_micro, made.percent, made.alerts) == (30.0, 30.0, [])  # what was spent before counts
    assert made.starts == TODAY()
    assert made.resets_at == datetime.combine(TODAY() + timedelta(1), datetime.min.time(), UTC)
    month = admin.set_budget("acme", 5_000_000, agent="ada", period="month")
    assert (month.agent, month.period, month.at_limit, month.spent_micro) == ("ada", Period.MONTH, AtLimit.DEFER, 0.0)
    assert (month.starts.day, month.resets_at.day, month.resets_at.hour) == (1, 1, 0)
    with sql(settings) as connection:
        assert reserved(connection, Call(tokens=50 * 20 + 1))
        assert not spend(connection, Call(tokens=50 * 51))
    assert [(b.agent, b.reserved_micro) for b in admin.budgets(tenant="acme")] == [(None, 20.02), ("ada", 0.0)]
    assert [b.agent for b in admin.budgets(agent="ada")] == ["ada"]
    assert admin.set_budget("acme", 200, period="day").at_limit is AtLimit.REJECT  # as it was
    assert admin.budgets(tenant="rival") == []
    admin.remove_budget("acme", period="day")
    admin.remove_budget("acme", agent="ada", period="month")
    assert admin.budgets() == []
    with pytest.raises(NotFound, match="tenant acme for a day"):
        admin.remove_budget("acme", period="day")
    with pytest.raises(NotFound, match="agent ada of tenant acme"):
        admin.remove_budget("acme", agent="ada")


def test_agents_are_named_as_they_like(admin: Admin) -> None:
    for agent in ("a/b c", "%2F?&=", "é", "\u2028", "day"):
        assert admin.set_budget("acme", 1, agent=agent).agent == agent
        admin.remove_budget("acme", agent=agent)


def test_there_is_no_budget_of_nobody(admin: Admin) -> None:
    for tenant in ("nobody", "", "..", "a/b", "Ä" * 99):
        with pytest.raises((NotFound, InvalidInput)):
            admin.set_budget(tenant, 5)
    with pytest.raises(InvalidInput, match="day or month"):
        admin.set_budget("acme", 5, period="week")  # type: ignore[arg-type]


WRONG_LIMITS: tuple[Any, ...] = (0, -1, 10**12 + 1, 10**400, 1.5, "5", True, None, [], float("nan"))

WRONG_BUDGETS: tuple[tuple[str, Any, str, str], ...] = (
    *(("acme/day", {"limit_micro": limit}, "limit_micro", "") for limit in WRONG_LIMITS),
    ("acme/day", {}, "limit_micro", "is missing"),
    ("acme/week", {"limit_micro": 5}, "period", "'day' or 'month'"),
    ("acme/day", {"limit_micro": 5, "at_limit": "explode"}, "at_limit", "'defer' or 'reject'"),
    ("acme/day", {"limit_micro": 5, "limit": 5}, "limit", "not a known field"),
    ("acme/day?agent=", {"limit_micro": 5}, "agent", "at least 1"),
    ("acme/day?agent=..", {"limit_micro": 5}, "agent", "must not be"),
    ("acme/day?who=ada", {"limit_micro": 5}, "who", "not a parameter"),
)


def test_wrong_budgets_are_refused_by_name(ask: httpx.Client, admin: Admin) -> None:
    for path, body, field, said in WRONG_BUDGETS:
        wrong = problem(ask.put(f"/v1/admin/budgets/{path}", content=json.dumps(body)), 422, "invalid_input")
        assert [error["field"] for error in wrong["errors"]] == [field], body
        assert said in wrong["errors"][0]["detail"]
    assert admin.budgets() == []


def test_history_has_each_period(admin: Admin, settings: Settings, tenant_key: str, gateway: str) -> None:
    for tenant, agent in (("acme", None), ("acme", "ada"), ("rival", None)):
        admin.set_budget(tenant, 100, agent=agent, period="day")
        spent(settings, Call(tenant, agent or "", tokens=50 * 25))
    with sql(settings) as connection:
        connection.execute(
            "INSERT INTO control.spending (tenant, agent, period, starts, limit_micro, settled)"
            " SELECT tenant, agent, period, starts - days, 50, 40 * 1000000"
            " FROM control.spending, generate_series(1, 700) AS days"
        )
    with Client(gateway, tenant_key) as client:
        mine = client.budget_history()
    assert len(mine) == 701 * 2  # several pages
    assert {one.tenant for one in mine} == {"acme"}
    newest, *_, oldest = [one for one in mine if one.agent is None]
    assert (newest.spent_micro, newest.limit_micro, newest.percent) == (50.0, 100, 50.0)  # with its agent's
    assert (oldest.spent_micro, oldest.percent, oldest.starts) == (40.0, 80.0, TODAY() - timedelta(700))
    assert len(admin.budget_history()) == 701 * 3
    assert len(admin.budget_history(tenant="acme", agent="ada", period="day")) == 701
    assert admin.budget_history(period="month") == []


def test_usage_is_added_up_by_anything(admin: Admin, settings: Settings) -> None:
    spent(
        settings,
        Call("acme", "ada", tokens=100, texts=20, saved_texts=5, saved_tokens=25),
        Call("acme", "bob", tokens=50, failed=True),
        Call("acme", tokens=50, model="text-embedding-3-large"),
        Call("rival", "ada", tokens=10**9, texts=10),
    )
    moved_to(settings, TODAY() - timedelta(3), "rival")
    (total,) = admin.usage(())
    assert (total.requests, total.failed, total.texts, total.tokens) == (4.0, 1.0, 32, 10**9 + 200)
    assert total.cost_micro == pytest.approx(20_000_000 + 2 + 1 + 6.5)
    assert (total.saved_texts, total.saved_tokens, total.saved_micro, total.saved_requests) == (5, 25, 0.5, 33.0)
    assert (total.day, total.tenant, total.agent, total.model) == (None, None, None, None)
    by_agent = admin.usage(("tenant", "agent"))
    assert [(u.tenant, u.agent, u.tokens) for u in by_agent] == [
        ("rival", "ada", 10**9),
        ("acme", "", 50),
        ("acme", "ada", 100),
        ("acme", "bob", 50),
    ]
    assert [(u.day, u.texts) for u in admin.usage()] == [(TODAY(), 22), (TODAY() - timedelta(3), 10)]
    assert [u.model for u in admin.usage(("model",), tenant="acme")] == ["text-embedding-3-large", MODEL]
    assert [u.texts for u in admin.usage((), agent="ada", since=TODAY())] == [20]
    assert [u.texts for u in admin.usage((), model=MODEL, until=TODAY() - timedelta(1))] == [10]
    moved_to(settings, TODAY() - timedelta(31), "rival")
    assert len(admin.usage()) == 1
    assert len(admin.usage(since=TODAY() - timedelta(31))) == 2


def test_usage_comes_in_pages(ask: httpx.Client, admin: Admin, settings: Settings) -> None:
    with sql(settings) as connection:
        connection.execute(
            "INSERT INTO control.usage (day, tenant, agent, model, texts)"
            " SELECT control.today(), 'acme', 'agent-' || n, 'm', n FROM generate_series(1, 2345) AS n"
        )
    found = admin.usage(("agent",))
    assert len({one.agent for one in found}) == len(found) == 2345
    first = ask.get("/v1/admin/usage?by=agent&limit=2").json()
    second = ask.get(f"/v1/admin/usage?by=agent&limit=2&cursor={first['next']}").json()
    assert len(first["usage"]) == len(second["usage"]) == 2
    assert first["usage"] != second["usage"]
    assert "next" not in ask.get("/v1/admin/usage?by=agent&limit=1000&cursor=2000").json()


WRONG_QUESTIONS = (
    *(("by=week", "by"), ("by=day,,agent", "by"), ("by=day&by=day,x", "by"), ("since=yesterday", "since")),
    *(("limit=0", "limit"), ("limit=1001", "limit"), ("cursor=-1", "cursor"), ("cursor=x", "cursor")),
    *(("agent=", "agent"), ("tenant=%00", "tenant"), ("model=%00", "model"), ("agents=a", "agents")),
)


def test_wrong_questions_are_refused_by_name(ask: httpx.Client) -> None:
    for query, field in WRONG_QUESTIONS:
        wrong = problem(ask.get(f"/v1/admin/usage?{query}"), 422, "invalid_input")
        assert [error["field"] for error in wrong["errors"]] == [field], query


def test_a_tenant_sees_its_own_and_nothing_of_others(
    admin: Admin, settings: Settings, http: httpx.Client, made_client: Callable[..., Client]
) -> None:
    for tenant in ("acme", "rival"):
        admin.set_budget(tenant, 1000, period="month")
        admin.set_budget(tenant, 1000, agent="ada")
        spent(settings, Call(tenant, "ada", tokens=50 * len(tenant)))
    client = made_client()
    assert [(b.tenant, b.agent, b.spent_micro) for b in client.budgets()] == [
        ("acme", None, 4.0),
        ("acme", "ada", 4.0),
    ]
    assert [b.agent for b in client.budgets(agent="ada")] == ["ada"]
    assert {one.tenant for one in client.budget_history()} == {"acme"}
    assert [(u.tenant, u.agent, u.cost_micro) for u in client.usage(("tenant", "agent"))] == [("acme", "ada", 4.0)]
    for path in ("budgets", "budgets/history", "usage"):
        assert "rival" not in http.get(f"/v1/{path}").text
        problem(http.get(f"/v1/{path}?tenant=rival"), 422, "invalid_input")
        problem(http.get(f"/v1/admin/{path}"), 403, "forbidden")
    for method, path in (("PUT", "budgets/acme/day"), ("DELETE", "budgets/acme/day"), ("PUT", "prices/hash")):
        problem(http.request(method, f"/v1/admin/{path}", json={"limit_micro": 1}), 403, "forbidden")
    assert http.put("/v1/budgets", json={"limit_micro": 1}).status_code == 405
    assert len(admin.budgets(tenant="acme")) == 2


def test_the_admin_key_is_no_tenants(admin_key: str, made_client: Callable[..., Client]) -> None:
    client = made_client(admin_key)
    for call in (client.budgets, client.budget_history, client.usage):
        with pytest.raises(Forbidden):
            call()


def test_both_clients_ask_alike(client: Front) -> None:
    assert (client.budgets(), client.budget_history(), client.usage(("agent", "day"))) == ([], [], [])
    with pytest.raises(InvalidInput, match="by"):
        client.usage(("week",))
    with pytest.raises(InvalidInput, match="period"):
        client.budget_history(period="week")  # type: ignore[arg-type]


def test_the_asynchronous_client_asks_the_same(admin: Admin, settings: Settings, gateway: str, tenant_key: str) -> None:
    admin.set_budget("acme", 1000)
    spent(settings, Call(tokens=50))

    async def go() -> tuple[Any, ...]:
        async with AsyncClient(gateway, tenant_key) as client:
            return await client.budgets(), await client.budget_history(), await client.usage(("model",))

    found = asyncio.run(go())
    with Client(gateway, tenant_key) as client:
        assert found == (client.budgets(), client.budget_history(), client.usage(("model",)))
    assert [len(one) for one in found] == [1, 1, 1]


def test_the_client_for_asyncio_reads_page_after_page(
    admin: Admin, gateway: str, tenant_key: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("memlane.contract.limits.PAGE_ITEMS", 1)
    for agent in ("ada", "bob", "eve"):
        admin.set_budget("acme", 100, agent=agent)
        spent(settings, Call(agent=agent, tokens=50))

    async def go() -> tuple[Any, ...]:
        async with AsyncClient(gateway, tenant_key) as client:
            return await client.budgets(), await client.budget_history(), await client.usage(("agent",))

    for found in asyncio.run(go()):
        assert sorted(one.agent for one in found) == ["ada", "bob", "eve"]


def test_prices_are_set_and_taken_away(admin: Admin, ask: httpx.Client) -> None:
    assert {price.model: price.micro_per_million for price in admin.prices()} == dict(SHIPPED_PRICES)
    assert admin.set_price("BAAI/bge-m3 v2", 12_345) == Price("BAAI/bge-m3 v2", 12_345)
    admin.set_price("BAAI/bge-m3 v2", 0)
    assert Price("BAAI/bge-m3 v2", 0) in admin.prices()
    admin.remove_price("BAAI/bge-m3 v2")
    with pytest.raises(NotFound):
        admin.remove_price("BAAI/bge-m3 v2")
    for wrong in (-1, 10**9 + 1, 0.5, "1", None, float("nan")):
        answer = ask.put("/v1/admin/prices/hash", content=json.dumps({"micro_per_million": wrong}))
        assert problem(answer, 422, "invalid_input")["errors"][0]["field"] == "micro_per_million"
    problem(ask.put("/v1/admin/prices/", json={"micro_per_million": 1}), 422, "invalid_input")
    assert len(admin.prices()) == len(SHIPPED_PRICES)


def test_latencies_are_by_size(admin: Admin, settings: Settings) -> None:
    spent(settings, Call(texts=20, took_s=0.3), Call(texts=17, took_s=0.1), Call(texts=1, took_s=0.05))
    assert [(one.texts, one.requests, one.mean_s) for one in admin.latencies()] == [(1, 1, 0.05), (32, 2, 0.2)]


CHANGES: tuple[tuple[Callable[[Admin], object], int], ...] = (
    (lambda admin: admin.set_budget("acme", 10**6, period="day"), 1),
    (lambda admin: admin.remove_budget("acme", period="day"), 1),
    (lambda admin: admin.set_price("hash", 0), 0),
)


@pytest.mark.parametrize(("change", "others"), CHANGES)
def test_what_waits_for_money_goes_on_at_once(
    admin: Admin, lane: Lane, settings: Settings, change: Callable[[Admin], object], others: int
) -> None:
    admin.set_price("hash", 10**9)
    for tenant in ("acme", "rival"):
        admin.set_budget(tenant, 1, period="day")
        remembered(lane, item(), tenant=tenant)
    waiting = f"kind = 'embed' AND not_before > now() + interval '30 s' AND error LIKE '{OVER_BUDGET}%'"
    assert count_rows(settings, lane.cluster, "jobs", waiting) == 2
    drain_all(lane, Kind.EMBED)
    assert count_rows(settings, lane.cluster, "vectors_hash") == 0
    change(admin)
    assert count_rows(settings, lane.cluster, "jobs", waiting) == others
    drain_all(lane, Kind.EMBED)
    assert count_rows(settings, lane.cluster, "vectors_hash") == 2 - others
    assert count_rows(settings, lane.cluster, "jobs") == others


def test_what_was_worked_on_meanwhile_is_looked_at_again(
    lane: Lane, settings: Settings, tenant_key: str, admin_key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A drain that asked before the budget was raised puts its job off afterwards, for an hour."""
    assert tenant_key
    monkeypatch.setattr("memlane.gateway.resuming._SOON_S", 0.2)
    put_off = f"kind = 'embed' AND not_before > now() AND error LIKE '{OVER_BUDGET}%'"
    with (
        serving(settings.model_copy(update={"reservation_s": 4.0})) as url,
        Admin(url, admin_key) as admin,
    ):
        with sql(settings) as connection:  # a change through the gateway would be followed by looks of its own
            connection.execute("UPDATE control.prices SET micro_per_million = 1000000000 WHERE model = 'hash'")
            connection.execute("SELECT control.set_budget('acme', '', 'day', 1, 'defer')")
        remembered(lane, item())
        claims = [due_now(settings, shard) for shard in lane.cluster.shards()]
        admin.set_budget("acme", 10**9, period="day")
        for _ in ("at once", "when the longest call is over"):
            for shard, claim in zip(lane.cluster.shards(), claims, strict=True):
                if claim is not None:
                    jobs.settle(shard, claim.token, [], jobs.Delay(3600.0, f"{OVER_BUDGET}used up"))
            assert count_rows(settings, lane.cluster, "jobs", put_off) == 1
            eventually(lambda: count_rows(settings, lane.cluster, "jobs", put_off) == 0)
            claims = [jobs.claim(shard, Kind.EMBED, TERMS) for shard in lane.cluster.shards()]


TERMS = jobs.Terms("test", 60.0, 10)


def due_now(settings: Settings, shard: Shard) -> jobs.Claim | None:
    """What waits on a shard, as a drain has it in its hands."""
    with sql(settings, shard.node.name) as connection:
        connection.execute(f"UPDATE {shard.schema}.jobs SET not_before = now()".encode())
    return jobs.claim(shard, Kind.EMBED, TERMS)


def series(gateway: str) -> dict[str, dict[str, float]]:
    """The series about money: name to label to value."""
    found: dict[str, dict[str, float]] = {}
    for family in text_string_to_metric_families(httpx.get(f"{gateway}/metrics").text):
        for sample in family.samples:
            if sample.labels and sample.name.startswith(("memlane_embedding_", "memlane_budgets")):
                (label,) = sample.labels.values()
                found.setdefault(sample.name, {})[label] = sample.value
    return found


def test_prometheus_sees_sums_and_no_names(admin: Admin, settings: Settings, gateway: str) -> None:
    admin.set_budget("acme", 100, period="month")
    admin.set_budget("acme", 1000, agent="ada")
    admin.set_budget("rival", 100, period="month")
    spent(
        settings,
        Call("acme", "ada", tokens=50 * 85, texts=20, saved_texts=5, saved_tokens=50),
        Call("rival", tokens=50 * 10, failed=True),
    )
    moved_to(settings, TODAY() - timedelta(40), "rival")
    eventually(lambda: "memlane_budgets" in series(gateway), 60)
    found = series(gateway)
    assert {name: of[MODEL] for name, of in found.items() if name != "memlane_budgets"} == {
        "memlane_embedding_requests_total": 2.0,
        "memlane_embedding_failed_total": 1.0,
        "memlane_embedding_texts_total": 21.0,
        "memlane_embedding_tokens_total": 50.0 * 95,
        "memlane_embedding_cost_dollars_total": 0.000095,
        "memlane_embedding_saved_texts_total": 5.0,
        "memlane_embedding_saved_tokens_total": 50.0,
        "memlane_embedding_saved_dollars_total": 0.000001,
        "memlane_embedding_saved_requests_total": 24.0,
    }
    assert found["memlane_budgets"] == {"0": 2.0, "50": 0.0, "80": 1.0, "100": 0.0}
    text = httpx.get(f"{gateway}/metrics").text
    assert [name for name in ("acme", "rival", "ada") if name in text] == []
