"""Shares: each tenant has its part of every claim by its weight, so that one with much to do holds nobody up."""

from collections import Counter
from collections.abc import Callable, Mapping

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memlane.config.settings import Settings
from memlane.contract import MemoryItem
from memlane.contract.status import TenantLimits
from memlane.storage import jobs, leases, tenants
from memlane.storage.cluster import Shard
from memlane.storage.jobs import Kind, Terms
from memlane.tasks.lane import Lane
from memlane.workers import drains
from tests.local import WorkerProcess
from tests.support import accepted, count_rows, eventually, process_of


def open_jobs(lane: Lane, shard: Shard, counts: Mapping[str, int], more: str = "") -> None:
    """Open jobs of tenants, all on one shard."""
    for tenant, count in counts.items():
        agent = next(a for n in range(1000) if lane.cluster.shard_of(tenant, a := f"a{n}") == shard.number)
        accepted(lane, *(MemoryItem(agent=agent, content=f"tea {n}{more}") for n in range(count)), tenant=tenant)


def claimed(
    shard: Shard, limit: int, weights: Mapping[str, int], after: str = "", limit_bytes: int = 2**30
) -> Counter[str]:
    """What a claim takes of each tenant; it is given back."""
    terms = Terms("somebody", 30.0, limit, weights=weights, limit_bytes=limit_bytes)
    claim = jobs.claim(shard, Kind.REMEMBER, terms, after)
    if claim is None:
        return Counter()
    leases.release_quietly(shard, claim.token)
    return Counter(job.tenant for job in claim.jobs)


def test_shares_are_as_the_weights_say(lane: Lane, shard: Shard) -> None:
    open_jobs(lane, shard, {"acme": 400, "beta": 400, "gamma": 2})
    assert claimed(shard, 200, {"acme": 3}) == {"acme": 148, "beta": 49, "gamma": 2}
    assert claimed(shard, 200, {}) == {"acme": 99, "beta": 99, "gamma": 2}
    assert claimed(shard, 200, {"acme": 1000}) == {"acme": 197, "beta": 1, "gamma": 1}
    assert claimed(shard, 3, {"acme": 1000}) == {"acme": 1, "beta": 1, "gamma": 1}
    assert claimed(shard, 2, {"acme": 1000}) == {"acme": 1, "beta": 1}
    assert claimed(shard, 2, {"acme": 1000}, after="beta") == {"gamma": 2}


def test_what_one_has_left_of_its_share_goes_to_the_others(lane: Lane, shard: Shard) -> None:
    open_jobs(lane, shard, {"light": 400, "vip": 1})
    assert claimed(shard, 100, {"vip": 100}) == {"light": 99, "vip": 1}


def test_large_jobs_are_claimed_by_their_bytes(lane: Lane, shard: Shard) -> None:
    """One of each tenant, whatever it weighs; then as the weights say, until there is enough."""
    sizes = {"acme": 20_000, "beta": 20_000, "gamma": 30}
    for tenant, size in sizes.items():
        open_jobs(lane, shard, {tenant: 60}, " " + "x" * size)

    def taken(limit_bytes: int, **weights: int) -> Counter[str]:
        return claimed(shard, 150, weights, limit_bytes=limit_bytes)

    assert taken(1) == {"acme": 1, "beta": 1, "gamma": 1}
    assert taken(1, acme=1000) == {"acme": 1, "beta": 1, "gamma": 1}
    even = taken(400_000)
    assert even["acme"] == pytest.approx(even["beta"], abs=1)
    assert 19 <= even["acme"] + even["beta"] <= 21
    assert even["gamma"] == pytest.approx(even["acme"], abs=2)
    weighted = taken(400_000, acme=3)
    assert weighted["acme"] == pytest.approx(3 * weighted["beta"], abs=2)
    assert taken(10**9) == taken(10**10)


def test_any_weights_leave_everybody_something(lane: Lane, shard: Shard) -> None:
    names = [f"t{n}" for n in range(6)]
    open_jobs(lane, shard, dict.fromkeys(names, 30))

    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.dictionaries(st.sampled_from(names), st.integers(1, 1000)), st.integers(1, 100))
    def holds(weights: dict[str, int], limit: int) -> None:
        found = claimed(shard, limit, weights)
        assert sum(found.values()) <= limit
        assert len(found) == min(limit, len(names))
        if limit >= len(names):
            total = sum(weights.get(name, 1) for name in names)
            for name in names:
                fair = 1 + (limit - len(names)) * weights.get(name, 1) // total
                assert found[name] >= min(30, fair)

    holds()


def test_workers_follow_what_an_operator_has_set(lane: Lane, shard: Shard) -> None:
    """Of three to one, while both have work: 75 of a hundred."""
    for tenant in ("acme", "beta"):
        tenants.create_tenant(lane.cluster.control, tenant)
    open_jobs(lane, shard, {"acme": 300, "beta": 300})
    tenants.set_limits(lane.cluster.control, "acme", TenantLimits(weight=3), ["weight"])
    lane.cluster.terms.hurry()
    eventually(lambda: lane.cluster.terms.weights == {"acme": 3})
    taken: Counter[str] = Counter()
    lane.settings = lane.settings.model_copy(update={"claim_size": 40, "slice_s": 1e-9})
    process = process_of(lane)
    while taken["acme"] < 230:
        drains.drain(process, "drain.remember", shard.number)
        rows = shard.node.run(f"SELECT tenant, count(*) FROM {shard.schema}.jobs GROUP BY tenant".encode())
        taken = Counter({tenant: 300 - count for tenant, count in rows})
    assert taken["acme"] / taken.total() == pytest.approx(0.75, abs=0.02)


@pytest.mark.acceptance
@pytest.mark.parametrize("broker", ["redis"], indirect=True)
def test_twenty_thousand_jobs_of_one_tenant_delay_another_by_no_more_than_some_batches(
    cluster_settings: Settings, door: Lane, start_worker: Callable[..., WorkerProcess]
) -> None:
    """Ten memories, on all shards, are searchable while nearly all of the other tenant's work is still to be done."""
    for batch in range(20):
        items = [MemoryItem(agent=f"loud-{n % 50}", content=f"noise {batch} {n}") for n in range(1000)]
        accepted(door, *items, tenant="loud")
    start_worker("ingest", "remember,embed")
    eventually(lambda: count_rows(cluster_settings, door.cluster, "memories") > 0, 60)
    before = count_rows(cluster_settings, door.cluster, "memories")
    accepted(door, *(MemoryItem(agent=f"quiet-{n}", content=f"tea {n}") for n in range(10)), tenant="quiet")
    mine = "agent IN (SELECT number FROM {0}.agents WHERE tenant = 'quiet')"
    eventually(lambda: stored(door, mine) == 10, 60)
    of_others = count_rows(cluster_settings, door.cluster, "memories") - before - 10
    assert of_others < 4000


def stored(lane: Lane, where: str) -> int:
    """Memories that are stored, over all shards."""
    found = 0
    for shard in lane.cluster.shards():
        (row,) = shard.node.run(
            f"SELECT count(*) FROM {shard.schema}.memories WHERE {where.format(shard.schema)}".encode()
        )
        found += row[0]
    return found
