"""Group commit: what comes at the same moment is taken in together, and each gets its own answer."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import count

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memlane.config.settings import Settings
from memlane.contract import Event, Receipt, State
from memlane.contract.memory import MemoryItem
from memlane.contract.status import TenantLimits
from memlane.errors import Conflict, MemlaneError, RateLimited, ShardMoved, Unavailable
from memlane.gateway.groups import Groups
from memlane.gateway.threads import NodeThreads
from memlane.storage import tenants
from memlane.storage.cluster import Shard
from memlane.tasks import accept
from memlane.tasks.accept import Part, Result
from memlane.tasks.lane import Lane
from tests.support import count_rows, eventually, item, ledger_of, sql

_ROUNDS = count()

_ITEMS = st.tuples(
    st.sampled_from(("acme", "rival")),
    st.sampled_from(("ada", "bob", "cy", "dee")),
    st.integers(0, 3),
    st.sampled_from(("tea", "coffee")),
)
"""Tenant, agent, the number of a key, content: so few that they meet again and again."""


def parts_of(lane: Lane, tenant: str, items: Sequence[MemoryItem]) -> list[Part]:
    """What a request hands over, by shard."""
    placed = accept.place(lane, tenant, items, atomic=False)
    return [Part(tenant, shard, part) for shard, part in placed.items()]


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(groups=st.lists(st.lists(_ITEMS, min_size=1, max_size=6), min_size=1, max_size=3))
def test_each_of_a_group_is_answered_as_if_it_were_alone(
    groups: list[list[tuple[str, str, int, str]]], lane: Lane
) -> None:
    """Requests of one item, in groups side by side: of each identity one is new, and the rest is measured by it."""
    round_ = next(_ROUNDS)
    before = {tenant: ledger_of(lane.cluster, tenant).events for tenant in ("acme", "rival")}

    def take(group: list[tuple[str, str, int, str]]) -> list[Result]:
        parts = [
            part
            for tenant, agent, key, content in group
            for part in parts_of(lane, tenant, [item(content, agent, key=f"{round_}-{key}")])
        ]
        return [result for results in accept.together(lane, parts) for result in results.values()]

    with ThreadPoolExecutor(len(groups)) as pool:
        found = list(pool.map(take, groups))
    answers = [
        (asked, result)
        for group, results in zip(groups, found, strict=True)
        for asked, result in zip(group, results, strict=True)
    ]
    winners = {asked[:3]: asked[3] for asked, result in answers if _state(result) == "accepted"}
    assert len(winners) == sum(_state(result) == "accepted" for _, result in answers)
    for asked, result in answers:
        assert _state(result) in (("accepted", "duplicate") if winners[asked[:3]] == asked[3] else ("conflict",))
    for tenant, earlier in before.items():
        states = Counter(_state(result) for asked, result in answers if asked[0] == tenant)
        ledger = ledger_of(lane.cluster, tenant)
        counted = [ledger.events[event] - earlier[event] for event in (Event.ACCEPTED, Event.DUPLICATE, Event.REJECTED)]
        assert counted == [states["accepted"], states["duplicate"], states["conflict"]]
        assert ledger.events[Event.ACCEPTED] == ledger.open


def _state(result: Result) -> str:
    if isinstance(result, Conflict):
        return "conflict"
    assert isinstance(result, Receipt), result
    return result.state.value


def test_a_shard_that_takes_nothing_keeps_nobody_else_out(lane: Lane, settings: Settings, shard: Shard) -> None:
    items = [item("tea", f"agent-{n}") for n in range(20)]
    with sql(settings, shard.node.name) as connection:
        connection.execute(f"UPDATE {shard.schema}.meta SET state = 'moving'".encode())
    parts = parts_of(lane, "acme", items)
    for part, results in zip(parts, accept.together(lane, parts), strict=True):
        for result in results.values():
            assert isinstance(result, ShardMoved if part.shard == shard.number else Receipt)


def test_what_cannot_be_written_harms_only_itself(lane: Lane) -> None:
    bad = item().model_copy(update={"content": "no \x00 text of Postgres"})
    parts = [part for one in (item("tea"), bad, item("coffee")) for part in parts_of(lane, "acme", [one])]
    first, second, third = (result for results in accept.together(lane, parts) for result in results.values())
    assert isinstance(first, Receipt)
    assert isinstance(second, MemlaneError)
    assert isinstance(third, Receipt)


def test_requests_of_a_moment_share_a_commit_and_nothing_else(lane: Lane, settings: Settings) -> None:
    """One is over its tenant's cap, one goes away, one is in conflict: the others do not notice."""
    tenants.create_tenant(lane.cluster.control, "rival")
    tenants.set_limits(lane.cluster.control, "rival", TenantLimits(open_jobs=1), ["open_jobs"])
    lane.cluster.refresh()
    eventually(lambda: lane.cluster.terms.of("rival").open_jobs == 1)
    threads = NodeThreads(lane.cluster, settings)
    groups = Groups(lane, threads)

    async def take(tenant: str, one: MemoryItem) -> Result:
        (part,) = parts_of(lane, tenant, [one])
        ((_, result),) = (await groups.take(part)).items()
        return result

    async def run() -> list[Result | BaseException]:
        gone = asyncio.create_task(take("acme", item("who goes away")))
        asked = [take("acme", item(f"memory {n}", key=f"k{n}")) for n in range(30)]
        asked += [take("acme", item("other", key="k0")), take("rival", item("one")), take("rival", item("two"))]
        tasks = [asyncio.create_task(one) for one in asked]
        await asyncio.sleep(0)
        gone.cancel()
        return list(await asyncio.gather(*tasks, return_exceptions=True))

    *good, conflict, one, two = asyncio.run(run())
    threads.close()
    assert all(isinstance(result, Receipt) and result.state is State.ACCEPTED for result in good)
    assert isinstance(conflict, Conflict)
    assert isinstance(one, Receipt)
    assert isinstance(two, RateLimited)
    counts = count_rows(settings, lane.cluster, "ledger", "tenant = 'acme' AND event = 'accepted'")
    assert counts == 1
    assert ledger_of(lane.cluster, "acme").events[Event.ACCEPTED] == 30


def test_more_than_may_wait_are_turned_away_at_once(lane: Lane, settings: Settings) -> None:
    few = settings.model_copy(update={"gateway_queue": 2})
    lane.settings = few
    lane.cluster.refresh()
    threads = NodeThreads(lane.cluster, few)
    groups = Groups(lane, threads)

    async def run() -> list[object]:
        parts = [part for n in range(4) for part in parts_of(lane, "acme", [item(f"memory {n}")])]
        return await asyncio.gather(*map(groups.take, parts), return_exceptions=True)

    *good, third, fourth = asyncio.run(run())
    threads.close()
    assert len(good) == 2
    assert not any(isinstance(result, BaseException) for result in good)
    assert isinstance(third, Unavailable)
    assert isinstance(fourth, Unavailable)
