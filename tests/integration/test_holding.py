"""What producers hand over beyond a limit: held back, sent on in order when there is room, never dropped."""

from base64 import b64encode
from collections.abc import Callable
from random import randbytes
from typing import Any
from uuid import uuid4

import pytest

from memlane.beat.sweep import Sweep
from memlane.config.settings import Settings
from memlane.contract import MemoryItem
from memlane.contract.status import TenantLimits
from memlane.storage import held, strays
from memlane.storage.roles import WORKER
from memlane.tasks import accept, producers
from memlane.tasks.counts import OwnCounts
from memlane.tasks.lane import Lane
from memlane.tasks.rates import Rates
from tests.support import MakeSettings, as_role, count_rows, drain_all, eventually, sql


class Minute:
    """Rates whose minute a test ends."""

    def __init__(self, **limits: int) -> None:
        self.limits = TenantLimits(**limits)
        self.counts = OwnCounts()
        self.rates = Rates(lambda _: self.limits, self.counts)

    def over(self) -> None:
        """What was counted is long ago."""
        self.counts._kept.clear()


@pytest.fixture
def worker(settings: Settings, make_lane: Callable[[Settings], Lane]) -> Lane:
    """A lane with the workers' rights."""
    return make_lane(as_role(settings, WORKER))


def send(lane: Lane, rates: Rates | None, *contents: str, agent: str = "ada", tenant: str = "acme") -> None:
    """A producer's message with memories of an agent."""
    items = [{"agent": agent, "content": content} for content in contents]
    producers.deliver(lane, "memory.remember", {"tenant": tenant, "items": items}, str(uuid4()), rates)


def sweep(lane: Lane, rates: Rates | None) -> None:
    Sweep(lane, lambda _kind, _shard: True, 60, rates)()


def kept(lane: Lane) -> dict[str, int]:
    """Strays by reason."""
    return {s.reason: s.count for shard in lane.cluster.shards() for s in strays.summary(shard)}


def accepted(lane: Lane, settings: Settings) -> list[str]:
    """What was accepted, in that order on each shard."""
    found: list[str] = []
    for shard in lane.cluster.shards():
        with sql(settings, shard.node.name) as connection:
            query = f"SELECT payload ->> 'content' FROM {shard.schema}.jobs ORDER BY number".encode()
            found += [content for (content,) in connection.execute(query).fetchall()]
    return found


def test_what_is_over_a_rate_waits_and_goes_on_in_order(worker: Lane, settings: Settings) -> None:
    minute = Minute(rate=4)
    for number in range(8):
        send(worker, minute.rates, f"tea {number}")
    assert accepted(worker, settings) == [f"tea {number}" for number in range(4)]
    assert kept(worker) == {held.REASONS["tenant"]: 4}
    sweep(worker, minute.rates)
    assert kept(worker) == {held.REASONS["tenant"]: 4}
    minute.limits = TenantLimits(rate=2)
    minute.over()
    sweep(worker, minute.rates)
    assert accepted(worker, settings) == [f"tea {number}" for number in range(6)]
    minute.over()
    sweep(worker, minute.rates)
    assert accepted(worker, settings) == [f"tea {number}" for number in range(8)]
    assert kept(worker) == {}


def test_a_message_larger_than_its_rate_goes_on_in_parts(worker: Lane, settings: Settings) -> None:
    minute = Minute(rate=8)
    send(worker, minute.rates, *(f"tea {number}" for number in range(250)))
    assert accepted(worker, settings) == []
    minute.limits = TenantLimits(rate=100)
    for _ in range(3):
        minute.over()
        sweep(worker, minute.rates)
    assert accepted(worker, settings) == [f"tea {number}" for number in range(250)]


def test_an_agent_that_is_over_holds_up_no_other(worker: Lane, settings: Settings) -> None:
    minute = Minute(agent_rate=2)
    for number in range(5):
        send(worker, minute.rates, f"loud {number}", agent="loud")
        send(worker, minute.rates, f"quiet {number}", agent=f"quiet-{number}")
    assert sorted(accepted(worker, settings)) == ["loud 0", "loud 1", *(f"quiet {number}" for number in range(5))]
    assert kept(worker) == {held.REASONS["agent"]: 3}
    minute.limits = TenantLimits(rate=1)
    send(worker, minute.rates, "other", "other too", agent="other")
    minute.limits = TenantLimits(agent_rate=2)
    sweep(worker, minute.rates)
    assert "other too" in accepted(worker, settings), "it came last, and had room"
    assert kept(worker) == {held.REASONS["agent"]: 3}


def test_a_message_of_which_a_part_is_over(worker: Lane, settings: Settings) -> None:
    """The rest keeps its ids: sent on twice, it is there once."""
    tenants_of(settings, open_jobs=3)
    worker.cluster.terms.hurry()
    eventually(lambda: worker.cluster.terms.of("acme").open_jobs == 3)
    items = [{"agent": "ada", "content": f"tea {number}"} for number in range(5)]
    for _ in range(2):
        producers.deliver(worker, "memory.remember", {"tenant": "acme", "items": items}, "the same")
    assert accepted(worker, settings) == ["tea 0", "tea 1", "tea 2"]
    assert set(kept(worker)) == {held.REASONS["open_jobs"]}
    drain_all(worker)
    worker.cluster.open_jobs._look.hurry()

    def gone() -> bool:
        sweep(worker, None)
        drain_all(worker)
        return kept(worker) == {}

    eventually(gone)
    assert count_rows(settings, worker.cluster, "memories") == 5


def test_what_is_over_what_an_agent_may_have_open(
    make_settings: MakeSettings, make_lane: Callable[[Settings], Lane]
) -> None:
    """It holds up no other agent, and goes on when what came before is stored."""
    settings = make_settings(agent_open_mb=1)
    worker = make_lane(as_role(settings, WORKER))
    for _ in range(40):
        send(worker, None, b64encode(randbytes(24_000)).decode())
    assert list(kept(worker)) == [held.REASONS["agent_open_bytes"]]
    assert 3 <= kept(worker)[held.REASONS["agent_open_bytes"]] <= 8, "32 fit, or a few more"
    send(worker, None, "tea", agent="bob")
    sweep(worker, None)
    assert "tea" in accepted(worker, settings)

    def gone() -> bool:
        drain_all(worker)
        sweep(worker, None)
        return kept(worker) == {}

    eventually(gone)
    drain_all(worker)
    assert count_rows(settings, worker.cluster, "memories") == 41


def tenants_of(settings: Settings, **limits: int) -> None:
    """Create tenant `acme` with limits, as an operator would."""
    with sql(settings) as connection:
        connection.execute("INSERT INTO control.tenants (tenant) VALUES ('acme') ON CONFLICT DO NOTHING")
        for name, value in limits.items():
            connection.execute(f"UPDATE control.tenants SET {name} = %s".encode(), [value])


def test_over_a_budget_that_refuses(worker: Lane, settings: Settings) -> None:
    tenants_of(settings)
    with sql(settings) as connection:
        connection.execute("UPDATE control.prices SET micro_per_million = 1000000 WHERE model = 'hash'")
        connection.execute("SELECT control.set_budget('acme', '', 'day', 5, 'reject')")
    eventually(lambda: len(worker.cluster.rooms.of("acme")) == 1)
    send(worker, None, "this is far too dear for us")
    assert kept(worker) == {held.REASONS["budget"]: 1}
    sweep(worker, None)
    assert accepted(worker, settings) == []
    with sql(settings) as connection:
        connection.execute("SELECT control.set_budget('acme', '', 'day', 1000, 'reject')")

    def sent_on() -> bool:
        sweep(worker, None)
        return kept(worker) == {}

    eventually(sent_on)
    assert accepted(worker, settings) == ["this is far too dear for us"]


def test_what_a_budget_refuses_takes_no_rate_from_others(worker: Lane, settings: Settings) -> None:
    tenants_of(settings)
    with sql(settings) as connection:
        connection.execute("UPDATE control.prices SET micro_per_million = 1000000 WHERE model = 'hash'")
        connection.execute("SELECT control.set_budget('acme', 'ada', 'day', 5, 'reject')")
    eventually(lambda: len(worker.cluster.rooms.of("acme")) == 1)
    minute = Minute(rate=4)
    send(worker, minute.rates, "this is far too dear for us")
    minute.over()
    for _ in range(4):
        sweep(worker, minute.rates)
    assert kept(worker) == {held.REASONS["budget"]: 1}
    send(worker, minute.rates, *(f"tea {number}" for number in range(4)), agent="bob")
    assert accepted(worker, settings) == [f"tea {number}" for number in range(4)]


def test_what_a_cap_refuses_takes_no_rate(worker: Lane, settings: Settings) -> None:
    tenants_of(settings, open_jobs=1)
    worker.cluster.terms.hurry()
    eventually(lambda: worker.cluster.terms.of("acme").open_jobs == 1)
    minute = Minute(rate=4)
    send(worker, minute.rates, "tea 0")
    send(worker, minute.rates, "tea 1")
    minute.over()
    for _ in range(4):
        sweep(worker, minute.rates)
    assert minute.rates.take("acme", {"ada": 4}).refused == {}
    minute.over()
    drain_all(worker)
    worker.cluster.open_jobs._look.hurry()

    def sent_on() -> bool:
        sweep(worker, minute.rates)
        return kept(worker) == {}

    eventually(sent_on)
    assert accepted(worker, settings) == ["tea 1"]


def test_one_that_breaks_what_takes_it_in_holds_up_no_other(
    worker: Lane, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    minute = Minute(rate=1)
    for content in ("first", "broken", "good"):
        send(worker, minute.rates, content)
    assert kept(worker) == {held.REASONS["tenant"]: 2}
    payload = accept.payload

    def breaks(one: MemoryItem) -> dict[str, Any]:
        return {"": 1 // (one.content != "broken"), **payload(one)}

    monkeypatch.setattr(accept, "payload", breaks)
    minute.limits = TenantLimits(rate=100)
    sweep(worker, minute.rates)
    assert accepted(worker, settings) == ["first", "good"]
    assert kept(worker) == {"ZeroDivisionError in memory.remember": 1}


def test_what_is_held_for_a_shard_that_is_down_waits_for_that_shard(
    settings: Settings, make_lane: Callable[[Settings], Lane]
) -> None:
    """It is not over any limit, and takes nothing from the rate."""
    one, other = make_lane(as_role(settings, WORKER)), make_lane(as_role(settings, WORKER))
    agent = next(a for n in range(99) if one.cluster.node_of(one.cluster.shard_of("acme", a := f"a{n}")) == "node-2")
    minute = Minute(rate=4)
    send(one, minute.rates, *(f"tea {number}" for number in range(4)), agent=agent)
    send(one, minute.rates, "late", "later", agent=agent)
    one.cluster.nodes["node-2"].close()
    minute.over()
    sweep(one, minute.rates)
    ((reason, count),) = kept(other).items()
    assert (reason.startswith("held"), count) == (False, 1)
    assert minute.rates.take("acme", {"bob": 4}).refused == {}
    minute.over()
    sweep(other, minute.rates)
    assert sorted(accepted(other, settings)) == ["late", "later", *(f"tea {number}" for number in range(4))]
    assert kept(other) == {}


def test_what_waits_for_too_long_is_left_to_an_operator(
    make_settings: MakeSettings, make_lane: Callable[[Settings], Lane]
) -> None:
    settings = make_settings(hold_s=0.001)
    owner, worker = make_lane(settings), make_lane(as_role(settings, WORKER))
    minute = Minute(rate=1)
    send(worker, minute.rates, "tea 0")
    send(worker, minute.rates, "tea 1")
    sweep(worker, minute.rates)
    assert kept(worker) == {"held back in vain: over the tenant's rate": 1}
    minute.over()
    sweep(worker, minute.rates)
    assert accepted(worker, settings) == ["tea 0"], "an operator decides"
    (stray,) = [one for shard in owner.cluster.shards() for one in found(settings, shard.schema, shard.node.name)]
    retried = [strays.retry(shard, [stray]) for shard in owner.cluster.shards()]
    assert sum(retried) == 1
    sweep(worker, minute.rates)
    assert accepted(worker, settings) == ["tea 0", "tea 1"]
    assert kept(worker) == {}


def found(settings: Settings, schema: str, node: str) -> list[Any]:
    with sql(settings, node) as connection:
        return [id_ for (id_,) in connection.execute(f"SELECT id FROM {schema}.strays".encode()).fetchall()]


def test_a_sweep_tries_so_many_and_no_more(worker: Lane, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("memlane.tasks.holding._AT_ONCE", 10)
    minute = Minute(rate=1)
    for number in range(60):
        send(worker, minute.rates, f"tea {number}", tenant=f"tenant-{number // 2}")
    assert sum(kept(worker).values()) == 30
    minute.limits = TenantLimits(rate=100)
    sweep(worker, minute.rates)
    assert 10 <= 30 - sum(kept(worker).values()) <= 30, "ten, and the rest of a page"
    for _ in range(3):
        sweep(worker, minute.rates)
    assert kept(worker) == {}
    assert len(accepted(worker, settings)) == 60
