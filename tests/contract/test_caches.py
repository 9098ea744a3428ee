"""Answers that are given again: that they are the same, say so, are counted, and are gone when told so."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import httpx
import pytest
import redis

from memlane import Client
from memlane.config.settings import Settings
from memlane.contract.recall import CacheUse
from memlane.storage import tenants
from memlane.tasks.caches.levels import Kept
from memlane.tasks.lane import Lane
from tests.commands import Run, document
from tests.contract.conftest import serving
from tests.support import MakeSettings, count_rows, eventually

pytestmark = pytest.mark.usefixtures("worker")


def shared(settings: Settings) -> redis.Redis:
    """The caches' Redis, for the test itself."""
    assert settings.shared_cache_url is not None
    return redis.Redis.from_url(settings.shared_cache_url)


def keys(settings: Settings) -> int:
    with shared(settings) as client:
        return len(client.keys("memlane:cache:answers:*"))


def test_the_same_question_is_answered_once_more(gateway: str, tenant_key: str, lane: Lane, settings: Settings) -> None:
    with Client(gateway, tenant_key) as client:
        client.remember("ada", "she drinks tea").wait("searchable")
        first, again = client.recall("ada", "tea?"), client.recall("ada", "tea?")
        assert (first.cache, again.cache) == (None, CacheUse.HIT)
        assert again.hits == first.hits
        eventually(lambda: count_rows(settings, lane.cluster, "memory_stats", "access_count = 2") == 1)
        eventually(lambda: count_rows(settings, lane.cluster, "queries") == 2)
        assert client.recall("ada", "tea?", limit=1).cache is None
        client.remember("ada", "he drinks tea").wait("searchable")
        assert client.recall("ada", "tea?").cache is None
        assert [len(list(client.memories("ada"))) for _ in range(2)] == [2, 2]


def test_another_gateway_knows_it_from_redis(gateway: str, tenant_key: str, settings: Settings) -> None:
    with serving(settings) as other, Client(gateway, tenant_key) as one, Client(other, tenant_key) as two:
        receipt = one.remember("ada", "she drinks tea")
        receipt.wait("searchable")
        one.recall("ada", "tea?")
        eventually(lambda: keys(settings) == 1)
        assert two.recall("ada", "tea?").cache is CacheUse.HIT
        two.forget("ada", receipt.id)
        assert keys(settings) == 0
        assert [client.recall("ada", "tea?").hits for client in (one, two)] == [(), ()]


def test_a_redis_that_is_away_holds_nobody_up(
    make_settings: MakeSettings, make_lane: Callable[[Settings], Lane]
) -> None:
    settings = make_settings(cache_url="redis://127.0.0.1:1/0")
    lane = make_lane(settings)
    tenants.create_tenant(lane.cluster.control, "acme")
    with serving(settings) as url, Client(url, tenants.create_key(lane.cluster.control, "acme")) as client:
        client.remember("ada", "tea")
        assert [client.recall("ada", "tea?").cache for _ in range(2)] == [None, CacheUse.HIT]


def test_nothing_is_kept_where_caches_are_off(
    make_settings: MakeSettings, make_lane: Callable[[Settings], Lane]
) -> None:
    settings = make_settings(cache_preset="none")
    lane = make_lane(settings)
    tenants.create_tenant(lane.cluster.control, "acme")
    with serving(settings) as url, Client(url, tenants.create_key(lane.cluster.control, "acme")) as client:
        client.remember("ada", "tea")
        assert [client.recall("ada", "tea?").cache for _ in range(2)] == [None, None]


def test_similar_questions_share_an_answer_where_that_is_wanted(
    make_settings: MakeSettings, make_lane: Callable[[Settings], Lane]
) -> None:
    settings = make_settings(cache_similar=0.95)
    lane = make_lane(settings)
    tenants.create_tenant(lane.cluster.control, "acme")
    with serving(settings) as url, Client(url, tenants.create_key(lane.cluster.control, "acme")) as client:
        for agent in ("ada", "bob"):
            client.remember(agent, "she drinks tea")
        questions = ("ada", "Tea?"), ("ada", "TEA?"), ("bob", "tea?")
        asked = [client.recall(agent, query).cache for agent, query in questions]
        assert asked == [None, CacheUse.SIMILAR, None]


def test_an_operator_sees_them_and_clears_them(gateway: str, tenant_key: str, admin_key: str, run: Run) -> None:
    known = {"MEMLANE_URL": gateway, "MEMLANE_API_KEY": admin_key}

    def clear(*of: str) -> object:
        return document(run("cache", "clear", *of, "--json", **known)).get("agents")

    with Client(gateway, tenant_key) as client:
        for agent in ("ada", "bob"):
            receipt = client.remember(agent, "she drinks tea")
            receipt.wait("searchable")

        def asked() -> list[CacheUse | None]:
            return [client.recall(agent, "tea?").cache for agent in ("ada", "bob")]

        asked()
        assert asked() == [CacheUse.HIT, CacheUse.HIT]
        assert clear("--tenant", "acme", "--agent", "ada") == 1
        assert asked() == [None, CacheUse.HIT]
        assert clear("--tenant", "acme", "--agent", "bob", "--memory", str(receipt.id)) == 1
        assert asked() == [CacheUse.HIT, None]
        assert clear("--tenant", "acme") == 2
        assert asked() == [None, None]
        assert clear() is None
        assert asked() == [None, None]
        eventually(lambda: any(one["hits"] for one in document(run("cache", "show", "--json", **known))), 20)
    with httpx.Client(base_url=gateway, headers={"Authorization": f"Bearer {admin_key}"}) as http:
        assert http.delete("/v1/admin/caches?agent=ada").status_code == 422
        assert http.delete("/v1/admin/caches?tenant=acme&agent=nobody").status_code == 404
        levels = {(one["cache"], one["level"]) for one in http.get("/v1/admin/caches").json()}
    assert levels >= {("recalls", "process"), ("recalls", "redis"), ("vectors", "process")}


def test_an_answer_ends_with_what_is_in_it(gateway: str, tenant_key: str, settings: Settings) -> None:
    soon = datetime.now(UTC) + timedelta(seconds=30)
    with Client(gateway, tenant_key) as client:
        client.remember("ada", "tea is ready", expires_at=soon).wait("searchable")
        client.recall("ada", "tea?")
        assert len(list(client.memories("ada"))) == 1
    with shared(settings) as caches:
        eventually(lambda: sum(caches.hlen(key) for key in caches.scan_iter("memlane:cache:answers:*")) == 2)
        (key,) = caches.scan_iter("memlane:cache:answers:*")
        kept = [Kept.load(value[1:]) for value in caches.hvals(key)]
    assert [one.until_s for one in kept] == pytest.approx([soon.timestamp()] * 2, abs=0.001)


def test_text_is_in_the_caches_database_alone_and_goes(gateway: str, tenant_key: str, settings: Settings) -> None:
    with Client(gateway, tenant_key) as client:
        client.remember("ada", "a canary in a coal mine").wait("searchable")
        client.recall("ada", "canary?")
        list(client.memories("ada"))
    eventually(lambda: keys(settings) == 1)
    with shared(settings) as client:
        for key in client.scan_iter("*"):
            assert key.startswith(b"memlane:cache:")
            assert client.ttl(key) > 0, key
