"""The cap of open jobs and budgets that refuse: at all doors, as far as a process can know, and never for nothing."""

from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime
from random import randbytes

import pytest

from memlane.config.settings import Settings
from memlane.contract import Embedding, MemoryItem, Receipt
from memlane.contract.status import TenantLimits
from memlane.errors import BudgetExceeded, InvalidInput, MemlaneError, RateLimited
from memlane.storage import tenants
from memlane.storage.open_bytes import OpenBytes
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
    assert acme.cluster.open_bytes._look._thread is None, "nobody has handed over an eighth of what an agent may have"


@pytest.fixture
def small(make_settings: MakeSettings) -> Settings:
    """An agent may have one MiB open."""
    return make_settings(agent_open_mb=1)


def large(count: int, agent: str = "ada") -> list[MemoryItem]:
    """Memories of 32 KiB that cannot be compressed by much."""
    return [item(b64encode(randbytes(24 * 1024)).decode(), agent) for _ in range(count)]


@pytest.mark.parametrize("role", [GATEWAY, WORKER])
def test_an_agent_has_only_so_much_open(small: Settings, make_lane: Callable[[Settings], Lane], role: str) -> None:
    lane = make_lane(as_role(small, role))
    assert Counter(outcomes(lane, *large(40))) == {"accepted": 31, "RateLimited": 9}
    (refused,) = accept.accept(lane, "acme", large(1))
    assert isinstance(refused, RateLimited)
    assert (refused.limit, str(refused)) == ("agent_open_bytes", "over the 1 MiB that an agent may have open")
    assert refused.retry_after_s == 2
    assert outcomes(lane, *large(1, "bob")) == ["accepted"]
    assert isinstance(accept.accept(lane, "other", large(1))[0], Receipt)
    assert count_rows(small, lane.cluster, "jobs") == 33


def test_an_agents_room_is_seen_when_it_is_made(small: Settings, make_lane: Callable[[Settings], Lane]) -> None:
    own = make_lane(small)
    accepted(own, *large(31))
    assert outcomes(own, *large(1)) == ["RateLimited"]
    drain_all(own)
    eventually(lambda: outcomes(own, *large(1)) == ["accepted"])


def test_what_others_let_an_agent_open_is_seen_soon(small: Settings, make_lane: Callable[[Settings], Lane]) -> None:
    """Another process asks when the agent has handed over an eighth to it; what it holds by then is less than twice."""
    one, other = make_lane(small), make_lane(small)
    accepted(one, *large(30))
    accepted(other, *large(4))
    eventually(lambda: outcomes(other, *large(1)) == ["RateLimited"])
    assert count_rows(small, one.cluster, "jobs") < 62
    assert outcomes(other, *large(1, "bob")) == ["accepted"]


def test_what_a_shard_that_does_not_answer_would_say_is_not_taken_for_nothing() -> None:
    """Agents whose shards answer are known anew; of the others everything since the last answer still counts."""
    answers: dict[tuple[str, str], int] = {}
    asked: list[tuple[str, str]] = []

    def find(agents: Collection[tuple[str, str]], above: int) -> Mapping[tuple[str, str], int]:
        assert above == 100
        asked.extend(agents)
        return {agent: held for agent, held in answers.items() if agent in agents}

    held = OpenBytes(800, find)
    held.close()  # it looks when we say
    look = held._look._look
    assert held.take("acme", [("ada", 300), ("bob", 300), ("few", 50)]) == [True] * 3
    answers |= {("acme", "ada"): 0}
    look()
    assert sorted(asked) == [("acme", "ada"), ("acme", "bob")], "nobody asks for who has handed over little"
    assert held.take("acme", [("ada", 700), ("bob", 600)]) == [True, False]
    answers |= {("acme", "ada"): 700}
    look()
    assert held.take("acme", [("bob", 501)]) == [False]
    answers |= {("acme", "bob"): 300}
    look()
    assert held.take("acme", [("ada", 200), ("bob", 500), ("bob", 1)]) == [False, True, False]
    answers |= {("acme", "bob"): 0}
    look()
    assert held.take("acme", [("bob", 800)]) == [True]


def test_an_atomic_batch_is_let_in_whole_or_not_at_all(small: Settings, make_lane: Callable[[Settings], Lane]) -> None:
    own = make_lane(small)
    accepted(own, *large(20))
    with pytest.raises(RateLimited, match="1 MiB"):
        accept.accept(own, "acme", large(20), atomic=True)
    with pytest.raises(InvalidInput, match="can never pass the 1 MiB"):
        accept.accept(own, "acme", large(32), atomic=True)
    accept.accept(own, "acme", large(11), atomic=True)


def test_a_duplicate_is_not_open_twice(small: Settings, make_lane: Callable[[Settings], Lane]) -> None:
    own = make_lane(small)
    (first,) = large(1)
    keyed = first.model_copy(update={"key": "k"})
    for _ in range(40):
        accept.accept(own, "acme", [keyed])
    assert outcomes(own, *large(30)) == ["accepted"] * 30


def test_who_is_refused_for_bytes_takes_no_open_job(small: Settings, make_lane: Callable[[Settings], Lane]) -> None:
    lane = make_lane(small.model_copy(update={"tenant_open_jobs": 33}))
    assert Counter(outcomes(lane, *large(33))) == {"accepted": 31, "RateLimited": 2}
    assert outcomes(lane, *many(3, "bob")) == ["accepted"] * 2 + ["RateLimited"]


def test_any_amount(make_settings: MakeSettings, make_lane: Callable[[Settings], Lane]) -> None:
    lane = make_lane(make_settings(agent_open_mb="none"))
    accepted(lane, *large(50))
    assert lane.cluster.open_bytes.limit_bytes is None


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
