"""Accept rates: counted alike by Redis and by a process alone, shared while Redis answers, and never waited for."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from time import monotonic, time
from uuid import uuid4

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from memlane.contract.status import TenantLimits
from memlane.embedded.redis import Redis
from memlane.errors import InvalidInput, RateLimited
from memlane.tasks.counts import WINDOW_S, Asked, Counts, OwnCounts, RedisCounts, Window
from memlane.tasks.rates import Rates, TooManyAtOnce
from tests.proxy import Proxy, Way
from tests.support import eventually

Plant = Callable[[str, int, int], None]
"""Plants what was counted under a key: how many minutes ago, and how much."""


def key() -> str:
    return f"test:{uuid4()}"


def planted_in_redis(client: "redis.Redis") -> Plant:
    def plant(name: str, minutes_ago: int, count: int) -> None:
        slot = int(client.time()[0]) // WINDOW_S - minutes_ago
        client.hset(name, mapping={"slot": slot, "now": count, "before": 7})

    return plant


def planted_in(counts: OwnCounts) -> Plant:
    def plant(name: str, minutes_ago: int, count: int) -> None:
        counts._kept[name] = (int(time()) // WINDOW_S - minutes_ago, count, 7)

    return plant


@pytest.fixture(params=["redis", "own"])
def both(request: pytest.FixtureRequest) -> tuple[Counts, Plant]:
    """Both who count, and a way to plant what was counted before."""
    if request.param == "own":
        own = OwnCounts()
        return own, planted_in(own)
    url = request.getfixturevalue("redis_server").uri(1)
    return RedisCounts(url), planted_in_redis(redis.Redis.from_url(url))


def test_up_to_the_limit_and_no_further(both: tuple[Counts, Plant]) -> None:
    counts, _ = both
    name = key()
    whole, _ = counts.take(Asked(name, 10, 4), [])
    assert whole is not None
    assert (whole.fits, whole.window.now, whole.window.left(10)) == (True, 4, 6)
    for cost, fits in ((7, False), (6, True), (1, False), (0, True)):
        found, _ = counts.take(Asked(name, 10, cost), [])
        assert found is not None
        assert found.fits is fits


def test_an_agent_that_is_over_costs_its_tenant_nothing(both: tuple[Counts, Plant]) -> None:
    counts, _ = both
    tenant, loud, quiet = key(), key(), key()
    whole, agents = counts.take(Asked(tenant, 100, 0), [Asked(loud, 10, 11), Asked(quiet, 10, 3)])
    assert whole is not None
    assert [one.fits for one in agents] == [False, True]
    assert (whole.fits, whole.window.now) == (True, 3)
    assert [one.window.now for one in agents] == [0, 3]


def test_a_tenant_that_is_over_costs_its_agents_nothing(both: tuple[Counts, Plant]) -> None:
    counts, _ = both
    tenant, agent = key(), key()
    whole, (one,) = counts.take(Asked(tenant, 5, 0), [Asked(agent, 10, 6)])
    assert whole is not None
    assert (whole.fits, one.window.now) == (False, 0)
    none, (one,) = counts.take(None, [Asked(agent, 10, 10)])
    assert none is None
    assert (one.fits, one.window.now) == (True, 10)


@pytest.mark.parametrize(("minutes_ago", "share"), [(0, 1.0), (1, None), (2, 0.0)])
def test_the_minute_before_counts_as_far_as_it_is_covered(
    both: tuple[Counts, Plant], minutes_ago: int, share: float | None
) -> None:
    counts, plant = both
    for _ in range(3):  # a minute may end in between
        name = key()
        plant(name, minutes_ago, 600)
        found, _ = counts.take(Asked(name, 10_000, 5), [])
        assert found is not None
        window = found.window
        if 1 < window.gone_s < WINDOW_S - 1:
            break
    left_of_it = 1 - window.gone_s / WINDOW_S
    expected = 600 * (left_of_it if share is None else share) + (7 * left_of_it if minutes_ago == 0 else 0) + 5
    assert window.used() == pytest.approx(expected, abs=0.1)


@given(
    before=st.integers(0, 2000),
    now=st.integers(0, 2000),
    gone_s=st.floats(0, WINDOW_S, exclude_max=True),
    limit=st.integers(1, 1000),
    data=st.data(),
)
def test_who_waits_as_long_as_told_finds_room(
    before: int, now: int, gone_s: float, limit: int, data: st.DataObject
) -> None:
    cost = data.draw(st.integers(1, limit))
    window = Window(before, now, gone_s)
    wait_s = window.room_in_s(limit, cost)
    assert 0 <= wait_s <= 2 * WINDOW_S
    slots, later_s = divmod(gone_s + wait_s, WINDOW_S)
    then = Window(*((before, now), (now, 0), (0, 0))[int(slots)], later_s)
    assert then.used() + cost <= limit + 1e-6
    if wait_s > 1e-6:
        assert window.used() + cost > limit


def rates(url: str | None, **limits: int) -> Rates:
    return Rates(lambda _: TenantLimits(**limits), RedisCounts(url) if url else None)


def fresh() -> str:
    return f"t{uuid4().hex}"


def test_processes_share_a_rate(redis_server: Redis) -> None:
    """Twenty threads of four that count send a thousand items each: as many as the limit get through, not one more."""
    tenant, limit = fresh(), 700
    several = [rates(redis_server.uri(1), rate=limit) for _ in range(4)]

    def send(number: int) -> int:
        return sum(not several[number % 4].take(tenant, {"ada": 3}).refused for _ in range(50))

    with ThreadPoolExecutor(20) as pool:
        taken = 3 * sum(pool.map(send, range(20)))
    assert limit - 3 < taken <= limit * 2  # a minute may have begun anew
    assert not any(one.alone for one in several)


def test_what_is_refused_says_why_and_until_when(redis_server: Redis) -> None:
    tenant, limited = fresh(), rates(redis_server.uri(1), rate=20, agent_rate=10)
    assert limited.take(tenant, {"ada": 10, "bob": 4}).refused == {}
    found = limited.take(tenant, {"ada": 1, "bob": 6})
    assert list(found.refused) == ["ada"]
    over = found.refused["ada"]
    assert isinstance(over, RateLimited)
    assert (over.limit, str(over)) == ("agent", "over the agent's rate of 10 items a minute")
    assert 0 < over.retry_after_s <= 2 * WINDOW_S
    assert [(p.name, p.quota, p.left) for p in found.policies] == [("tenant", 20, 0), ("agent", 10, 0)]
    none = limited.take(tenant, {"cleo": 1})
    assert {name: error.limit for name, error in none.refused.items() if isinstance(error, RateLimited)} == {
        "cleo": "tenant"
    }


def test_what_could_never_pass_is_bad_input() -> None:
    limited = rates(None, rate=20, agent_rate=10)
    assert isinstance(limited.take("acme", {"ada": 15, "bob": 6}).refused["bob"], InvalidInput)
    found = limited.take("acme", {"ada": 15, "bob": 5})
    assert {name: type(error) for name, error in found.refused.items()} == {"ada": TooManyAtOnce}
    assert "agent's rate of 10 a minute" in str(found.refused["ada"])
    assert [policy.left for policy in found.policies] == [15, 5]


def test_without_a_limit_nobody_is_asked() -> None:
    nowhere = Rates(lambda _: TenantLimits(weight=3, open_jobs=4), RedisCounts("redis://127.0.0.1:1/0"))
    assert nowhere.take("acme", {"ada": 1000}).policies == ()
    assert not nowhere.alone
    assert not nowhere.limited("acme")


@pytest.fixture
def link(redis_server: Redis) -> Iterator[tuple[Proxy, str]]:
    """A link to Redis that a test breaks."""
    proxy, url = Proxy.before(redis_server.uri(1))
    with proxy:
        yield proxy, url


@pytest.mark.parametrize("way", ["cut", "stall", "black_hole"])
def test_redis_that_is_gone_is_not_waited_for(link: tuple[Proxy, str], way: str) -> None:
    proxy, url = link
    tenant, limited = fresh(), rates(url, rate=50)
    assert limited.take(tenant, {"ada": 1}).policies[0].left == 49
    getattr(proxy, way)()
    begun = monotonic()
    answers = [limited.take(tenant, {"ada": 1}) for _ in range(60)]
    took_s = monotonic() - begun
    assert limited.alone
    assert took_s < 2.0, "the first waited, and those who tried again"
    assert 49 <= sum(not answer.refused for answer in answers) <= 51, "it counts on, alone and from nothing"
    proxy.mend()
    eventually(lambda: bool(limited.take(fresh(), {"ada": 1}).policies) and not limited.alone)


def test_one_late_answer_is_not_the_end_of_sharing(link: tuple[Proxy, str]) -> None:
    """A disk may be slow once; that request is counted here, the next one in Redis again."""
    proxy, url = link
    tenant, limited = fresh(), rates(url, rate=50)
    limited.take(tenant, {"ada": 1})
    proxy.stall(Way.TO_CLIENT)
    assert limited.take(tenant, {"ada": 1}).refused == {}
    assert not limited.alone
    proxy.mend()
    eventually(lambda: limited.take(tenant, {"ada": 0}).policies[0].left in (48, 49) and not limited.alone)
