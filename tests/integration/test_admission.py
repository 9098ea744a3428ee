"""The cap of open jobs and budgets that refuse: at all doors, as far as a process can know, and never for nothing."""

from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from memlane.config.settings import Settings
from memlane.contract import Embedding, MemoryItem, Receipt
from memlane.contract.status import TenantLimits
from memlane.errors import BudgetExceeded, InvalidInput, MemlaneError, RateLimited
from memlane.storage import tenants
from memlane.storage.roles import GATEWAY, WORKER
from memlane.tasks import accept
from memlane.tasks.lane import Lane
from tests.support import MakeSettings, accepted, as_role, count_rows, drain_all, eventually, item, sql


@pytest.fixture
def acme(lane: Lane) -> Lane:
    """A lane, with tenant `acme`."""
    tenants.create_tenant(lane.cluster.control, "acme")
    return lane


def outcomes(lane: Lane, *items: MemoryItem) -> list[str]:
    return [
        result.state if isinstance(result, Receipt) else type(result).__name__
        for result in accept.accept(lane, "acme", items)
    ]


def many(count: int, agent: str = "ada", content: str = "tea") -> list[MemoryItem]:
    return [item(f"{content} {number}", agent) for number in range(count)]


def words(count: int, word: str = "x") -> str:
    """A text of so many words, which is as many tokens of the tests' embedder."""
    return " ".join([word] * count)


def cap(lane: Lane, jobs: int) -> None:
    tenants.set_limits(lane.cluster.control, "acme", TenantLimits(open_jobs=jobs), ["open_jobs"])
    lane.cluster.terms.hurry()
    eventually(lambda: lane.cluster.terms.of("acme").open_jobs == jobs)


def test_a_cap_lets_in_as_many_as_there_is_room_for(acme: Lane, settings: Settings) -> None:
    cap(acme, 10)
    assert outcomes(acme, *many(8)) == ["accepted"] * 8
    assert outcomes(acme, *many(5, content="more")) == ["accepted"] * 2 + ["RateLimited"] * 3
    (refused,) = accept.accept(acme, "acme", many(1, content="yet more"))
    assert isinstance(refused, RateLimited)
    assert (refused.limit, str(refused)) == ("open_jobs", "over the cap of 10 open jobs")
    assert count_rows(settings, acme.cluster, "jobs") == 10
    assert outcomes(acme, item("of another tenant's agent", "bob")) == ["RateLimited"]
    assert isinstance(accept.accept(acme, "other", many(1))[0], Receipt)
    drain_all(acme)
    eventually(lambda: outcomes(acme, item("later")) == ["accepted"])


def test_a_duplicate_takes_no_room(acme: Lane) -> None:
    cap(acme, 5)
    again = [item("tea", key="k"), item("tea", key="k"), item("other tea", key="k")]
    assert outcomes(acme, *again) == ["accepted", "duplicate", "Conflict"]
    assert outcomes(acme, again[0]) == ["duplicate"]
    assert outcomes(acme, *many(4)) == ["accepted"] * 4
    assert outcomes(acme, item("one too many")) == ["RateLimited"]


def test_a_cap_is_all_or_none_for_an_atomic_batch(acme: Lane, settings: Settings) -> None:
    cap(acme, 10)
    accepted(acme, *many(6))
    with pytest.raises(RateLimited):
        accept.accept(acme, "acme", many(5, content="more"), atomic=True)
    with pytest.raises(InvalidInput, match="can never pass"):
        accept.accept(acme, "acme", many(11, content="more"), atomic=True)
    accept.accept(acme, "acme", many(4, content="more"), atomic=True)
    assert count_rows(settings, acme.cluster, "jobs") == 10


def test_what_others_have_taken_in_is_seen_soon(
    acme: Lane, settings: Settings, make_lane: Callable[[Settings], Lane]
) -> None:
    """Another process, with the gateway's rights, knows of it after its next look; each knows its own at once."""
    other = make_lane(as_role(settings, GATEWAY))
    cap(acme, 10)
    accepted(acme, *many(10))
    eventually(lambda: outcomes(other, item("more")) == ["RateLimited"])
    assert count_rows(settings, acme.cluster, "jobs") <= 20


def test_a_cap_that_is_set_for_all(make_settings: MakeSettings, make_lane: Callable[[Settings], Lane]) -> None:
    lane = make_lane(as_role(make_settings(tenant_open_jobs=3), WORKER))
    assert outcomes(lane, *many(4)) == ["accepted"] * 3 + ["RateLimited"]


def test_without_a_cap_nobody_counts(acme: Lane) -> None:
    accepted(acme, *many(5))
    assert acme.cluster.open_jobs._look._thread is None


@pytest.fixture
def budget(acme: Lane, settings: Settings) -> Callable[..., None]:
    """Sets a budget that refuses, at a price of a micro-dollar for each token, and what is spent of it."""

    def build(agent: str = "", micro: int = 100, spent: int = 0, at_limit: str = "reject", period: str = "day") -> None:
        with sql(settings) as connection:
            connection.execute("UPDATE control.prices SET micro_per_million = 1000000 WHERE model = 'hash'")
            connection.execute("SELECT control.set_budget('acme', %s, %s, %s, %s)", [agent, period, micro, at_limit])
            connection.execute(
                "UPDATE control.spending SET settled = %s WHERE tenant = 'acme' AND agent = %s AND period = %s",
                [spent * 1_000_000, agent, period],
            )

    assert acme
    return build


def known(lane: Lane, budgets: int) -> None:
    """Wait until a lane has seen so many budgets that refuse."""
    eventually(lambda: len(lane.cluster.rooms.of("acme")) == budgets)


@pytest.mark.parametrize("role", [GATEWAY, WORKER])
def test_over_a_budget_that_refuses(
    budget: Callable[..., None], settings: Settings, make_lane: Callable[[Settings], Lane], role: str
) -> None:
    lane = make_lane(as_role(settings, role))
    budget(micro=100, spent=60)
    known(lane, 1)
    assert outcomes(lane, item(words(14, "x")), item(words(14, "y")), item(words(14, "z"))) == ["accepted"] * 2 + [
        "BudgetExceeded"
    ]
    (refused,) = accept.accept(lane, "acme", [item(words(104, "x"))])
    assert isinstance(refused, BudgetExceeded)
    assert (refused.spent_micro, refused.limit_micro) == (60, 100)
    assert refused.resets_at is not None
    assert refused.resets_at > datetime.now(UTC)
    assert "tenant's budget of $0.0001 a day" in str(refused)
    assert isinstance(accept.accept(lane, "other", [item(words(104, "x"))])[0], Receipt)
    with pytest.raises(BudgetExceeded):
        accept.accept(lane, "acme", [item("a"), item(words(104, "x"))], atomic=True)


def test_a_refusal_names_the_budget_to_its_last_digit(acme: Lane, budget: Callable[..., None]) -> None:
    budget(micro=1_234_567_890, spent=1_234_567_890)
    known(acme, 1)
    (refused,) = accept.accept(acme, "acme", [item("tea")])
    assert "tenant's budget of $1,234.56789 a day" in str(refused)


def test_an_agent_may_be_over_while_others_are_not(acme: Lane, budget: Callable[..., None]) -> None:
    budget("ada", micro=20)
    budget(micro=1000, period="month")
    known(acme, 2)
    assert outcomes(acme, item(words(54, "x")), item(words(54, "x"), "bob"), item("x")) == [
        "BudgetExceeded",
        "accepted",
        "accepted",
    ]


def test_a_budget_that_defers_lets_all_in(acme: Lane, budget: Callable[..., None]) -> None:
    budget(micro=1, at_limit="defer")
    budget("bob", micro=1)
    known(acme, 1)
    assert outcomes(acme, item(words(54, "x"))) == ["accepted"]


def test_what_costs_nothing_is_never_refused(acme: Lane, budget: Callable[..., None]) -> None:
    first = item("said before", key="k")
    accepted(acme, first, item("known by its text"))
    drain_all(acme)
    budget(micro=1)
    known(acme, 1)
    own = Embedding(model=acme.model.name, vector=tuple([1.0] * acme.model.dims))
    foreign = Embedding(model="another", vector=(1.0, 2.0))
    assert outcomes(
        acme,
        first,
        item("known by its text", "bob"),
        item("with a vector", embedding=own),
        item("with a vector of another model", embedding=foreign),
        item("quite new"),
    ) == ["duplicate", "accepted", "accepted", "BudgetExceeded", "BudgetExceeded"]


def test_room_that_is_made_is_seen(acme: Lane, budget: Callable[..., None], settings: Settings) -> None:
    budget(micro=100, spent=100)
    known(acme, 1)
    assert outcomes(acme, item(words(14, "x"))) == ["BudgetExceeded"]
    with sql(settings) as connection:
        connection.execute("SELECT control.set_budget('acme', '', 'day', 1000, 'reject')")
    eventually(lambda: outcomes(acme, item(words(14, "y"))) == ["accepted"])


def test_what_was_known_goes_on_while_control_is_down(acme: Lane, budget: Callable[..., None]) -> None:
    budget(micro=1)
    cap(acme, 3)
    known(acme, 1)
    agent = next(a for n in range(100) if acme.cluster.node_of(acme.cluster.shard_of("acme", a := f"a{n}")) == "node-2")
    acme.cluster.control.close()
    found: MemlaneError | Receipt
    (found,) = accept.accept(acme, "acme", [item(words(14, "x"), agent)])
    assert isinstance(found, BudgetExceeded)
    assert acme.cluster.terms.of("acme").open_jobs == 3
