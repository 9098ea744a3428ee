"""Spending: settled and set aside never exceed a budget, and what is not allowed is put off, not lost."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from random import Random
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as rounds
from hypothesis import strategies as st

from memlane.beat.sweep import Sweep
from memlane.bench import limits_money
from memlane.config.settings import Settings
from memlane.contract import RecallRequest, State
from memlane.errors import BudgetRefused, ProviderRefused, RateRefused, Unavailable
from memlane.storage import ids, jobs, spending
from memlane.storage.jobs import Kind
from memlane.storage.nodes import Node
from memlane.storage.spending import Group, Used
from memlane.tasks import batch_embed
from memlane.tasks.embedders import Embedding
from memlane.tasks.embedders.hash import HashEmbedder
from memlane.tasks.lane import Lane
from memlane.tasks.spending import Ask, Loan, Purse, apportioned
from tests.support import Recorder, accepted, asks, count_rows, drain_all, item, recalled, remembered, sql

ADA, BOB, EVE = Group("acme", "ada"), Group("acme", "bob"), Group("rival", "eve")
MODEL = "hash"


@pytest.fixture(autouse=True)
def prices(settings: Settings) -> None:
    """A token costs a micro-dollar."""
    with sql(settings) as connection:
        connection.execute("UPDATE control.prices SET micro_per_million = 1000000 WHERE model = 'hash'")
        connection.execute("INSERT INTO control.tenants (tenant) VALUES ('acme'), ('rival')")


@pytest.fixture
def control(lane: Lane) -> Node:
    return lane.cluster.control


@pytest.fixture
def purse(control: Node) -> Purse:
    return Purse(control, MODEL, 60.0)


def budget(control: Node, tenant: str, agent: str, micro: int, period: str = "month", at_limit: str = "defer") -> None:
    params = {"tenant": tenant, "agent": agent, "period": period, "micro": micro, "at_limit": at_limit}
    control.run(
        b"SELECT control.set_budget(%(tenant)s, %(agent)s, %(period)s, %(micro)s, %(at_limit)s)", params, writes=True
    )


def no_budget(control: Node, tenant: str, agent: str) -> None:
    params = {"tenant": tenant, "agent": agent}
    control.run(b"SELECT control.remove_budget(%(tenant)s, %(agent)s, 'month')", params, writes=True)


def spent(control: Node, tenant: str = "acme", agent: str = "") -> tuple[int, int]:
    """Settled and set aside, in micro-dollars, of a month."""
    rows = control.run(
        b"SELECT settled / 1000000, reserved / 1000000 FROM control.spending"
        b" WHERE tenant = %(tenant)s AND agent = %(agent)s AND period = 'month' ORDER BY starts DESC LIMIT 1",
        {"tenant": tenant, "agent": agent},
    )
    return rows[0] if rows else (0, 0)


def lend(purse: Purse, *asked: tuple[Group, int]) -> Loan:
    return purse.lend({place: Ask(*one) for place, one in enumerate(asked)})


def test_who_is_over_is_left_out_and_the_rest_goes_on(control: Node, purse: Purse) -> None:
    budget(control, "acme", "ada", 10)
    budget(control, "acme", "", 100)
    loan = lend(purse, (ADA, 11), (BOB, 40), (EVE, 10_000))
    assert loan.granted.keys() == {1, 2}
    assert str(loan.refused[0]).startswith("budget: ")
    assert spent(control) == (0, 40)
    assert lend(purse, (BOB, 61)).granted == {}
    purse.settle(loan, loan.used({1: 30, 2: 10_000}))
    assert spent(control) == (30, 0)
    assert lend(purse, (BOB, 61)).granted.keys() == {0}
    assert spent(control, agent="ada") == (0, 0)


def test_of_what_is_too_much_as_much_goes_on_as_there_is_room_for(control: Node, purse: Purse) -> None:
    budget(control, "acme", "", 100)
    loan = lend(purse, *[(ADA, 30)] * 5)
    assert len(loan.granted) == 3
    assert len(loan.refused) == 2
    assert spent(control) == (0, 90)


def test_several_agents_share_what_is_left_of_their_tenant(control: Node, purse: Purse) -> None:
    budget(control, "acme", "", 100)
    loan = lend(purse, *[(ADA, 30)] * 5, *[(BOB, 30)] * 5)
    assert len(loan.granted) == 3
    assert loan.granted.keys() | loan.refused.keys() == set(range(10))
    assert spent(control) == (0, 90)


def test_a_refusal_says_when_it_is_worth_asking_again(control: Node, purse: Purse) -> None:
    budget(control, "acme", "", 100, "day")
    loan = lend(purse, (ADA, 90))
    assert lend(purse, (ADA, 20)).refused[0].retry_after_s < 10  # when the other is settled, there may be room
    purse.settle(loan, loan.used({0: 90}))
    refusal = lend(purse, (ADA, 20)).refused[0]
    midnight = datetime.combine(datetime.now(UTC).date() + timedelta(days=1), datetime.min.time(), UTC)
    assert refusal.retry_after_s == pytest.approx(min(3600, (midnight - datetime.now(UTC)).total_seconds()), abs=5)


def test_what_cost_nothing_is_given_back_and_what_nobody_knows_is_charged(control: Node, purse: Purse) -> None:
    budget(control, "acme", "", 100)
    for tokens, charged in ((0, 0), (None, 20), (7, 27)):
        loan = lend(purse, (ADA, 20))
        purse.settle(loan, loan.used(loan.shares(tokens), failed=1))
        assert spent(control) == (charged, 0)
    assert usage(control)[ADA] == (3, 3, 3, 27, 27)


def usage(control: Node) -> Mapping[Group, tuple[float, ...]]:
    """Requests, failed ones, texts, tokens and micro-dollars."""
    rows = control.run(
        b"SELECT tenant, agent, requests, failed, texts, tokens, cost / 1000000 FROM control.usage"
        b" WHERE texts + tokens > 0"
    )
    return {Group(tenant, agent): tuple(numbers) for tenant, agent, *numbers in rows}


def test_a_reservation_that_nobody_settles_becomes_a_charge(control: Node, lane: Lane) -> None:
    budget(control, "acme", "", 100)
    purse = Purse(control, MODEL, 0.001)
    late = lend(purse, (ADA, 60))
    assert spent(control) == (0, 60)
    Sweep(lane, lambda *_: True, 30.0)()
    assert spent(control) == (60, 0)
    purse.settle(late, late.used({0: 10}))  # its holder was only slow: it is charged already
    assert spent(control) == (60, 0)
    assert usage(control)[ADA] == (1, 1, 0, 60, 60)


def test_a_budget_counts_what_was_spent_before_it_and_what_is_under_way(control: Node, purse: Purse) -> None:
    first = lend(purse, (ADA, 30), (BOB, 5))
    purse.settle(first, first.used({0: 20, 1: 5}))
    under_way = lend(purse, (ADA, 50))
    budget(control, "acme", "ada", 100)
    budget(control, "acme", "", 100)
    assert spent(control, agent="ada") == (20, 50)
    assert spent(control) == (25, 50)
    purse.settle(under_way, under_way.used({0: 40}))
    assert spent(control, agent="ada") == (60, 0)
    assert spent(control) == (65, 0)


def test_a_budget_may_go_and_come_while_calls_are_under_way(control: Node, purse: Purse) -> None:
    budget(control, "acme", "", 100)
    before = lend(purse, (ADA, 30))
    no_budget(control, "acme", "")
    without = lend(purse, (ADA, 1000))
    purse.settle(before, before.used({0: 10}))
    budget(control, "acme", "", 5000)
    assert spent(control) == (10, 1000)
    purse.settle(without, without.used({0: 900}))
    assert spent(control) == (910, 0)


def test_a_call_goes_on_the_account_of_the_period_that_it_began_in(control: Node, purse: Purse) -> None:
    budget(control, "acme", "", 100)
    loan = lend(purse, (ADA, 80))
    control.run(b"UPDATE control.reservations SET day = day - 40")
    control.run(b"UPDATE control.spending SET starts = control.starts(period, control.today() - 40)")
    following = lend(purse, (ADA, 90))
    assert following.granted  # a new month has begun
    purse.settle(loan, loan.used({0: 70}))
    months = control.run(b"SELECT settled / 1000000, reserved / 1000000 FROM control.spending ORDER BY starts")
    assert months == [(70, 0), (0, 90)]


def test_a_model_without_a_price_is_refused_where_there_is_a_budget(control: Node) -> None:
    purse = Purse(control, "nobody-knows", 60.0)
    budget(control, "acme", "", 100)
    loan = lend(purse, (ADA, 1), (EVE, 1))
    assert loan.granted.keys() == {1}
    assert "no price" in str(loan.refused[0])
    purse.settle(loan, loan.used({1: 1}))
    assert usage(control)[EVE] == (1, 0, 1, 1, 0)


@given(st.dates(date(1970, 1, 1), date(2200, 12, 31)))
@rounds(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_periods_are_those_of_the_calendar_in_utc(control: Node, day: date) -> None:
    month = day.replace(day=1)
    after = (month + timedelta(days=32)).replace(day=1)
    ((day_starts, day_ends, starts, ends),) = control.run(
        b"SELECT control.starts('day', %(day)s), control.ends('day', control.starts('day', %(day)s)),"
        b" control.starts('month', %(day)s), control.ends('month', control.starts('month', %(day)s))",
        {"day": day},
    )
    assert (day_starts, starts) == (day, month)
    assert day_ends == datetime.combine(day + timedelta(days=1), datetime.min.time(), UTC)
    assert ends == datetime.combine(after, datetime.min.time(), UTC)


def test_periods_begin_for_many_at_once_without_a_deadlock(control: Node) -> None:
    for number in range(12):
        control.run(b"INSERT INTO control.tenants (tenant) VALUES (%(tenant)s)", {"tenant": f"t{number}"})
        budget(control, f"t{number}", "", 1_000_000)

    def reserve(seed: int) -> int:
        names = Random(seed).sample(range(12), 8)
        if not seed % 3:
            control.run(b"DELETE FROM control.spending WHERE tenant = %(tenant)s", {"tenant": f"t{names[0]}"})
        groups = {Group(f"t{number}", ""): 1 for number in names}
        return sum(answer.granted for answer in spending.reserve(control, uuid4(), MODEL, groups, 60.0).values())

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(reserve, range(200))) == {8}


GROUPS = st.sampled_from([ADA, BOB, EVE])
NAMES = st.sampled_from([("acme", ""), ("acme", "ada"), ("rival", "")])
MOVES = st.one_of(
    st.tuples(st.just("lend"), st.dictionaries(GROUPS, st.integers(0, 60), min_size=1)),
    st.tuples(st.just("settle"), st.integers(0, 60)),
    st.tuples(st.just("run out"), st.none()),
    st.tuples(st.just("set"), st.tuples(NAMES, st.integers(1, 150))),
    st.tuples(st.just("remove"), NAMES),
)


@given(st.lists(MOVES, max_size=25))
@rounds(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_whatever_happens_the_counts_are_what_was_used_and_what_is_under_way(
    control: Node, moves: list[tuple[str, object]]
) -> None:
    for table in (b"reservations", b"usage", b"spending", b"budgets"):
        control.run(b"DELETE FROM control." + table)
    open_: list[tuple[UUID, dict[Group, int]]] = []
    for move, what in moves:
        match move, what:
            case "lend", dict(asked):
                before = over(control)
                id_ = uuid4()
                answers = spending.reserve(control, id_, MODEL, asked, 60.0)
                given_ = {group: tokens for group, tokens in asked.items() if answers[group].granted}
                open_ += [(id_, given_)] if given_ else []
                assert over(control) <= before, "lending never takes a budget over its limit"
            case "settle", int(most) if open_:
                id_, held = open_.pop(0)
                used = {group: Used(1, 0, 1, min(most, tokens)) for group, tokens in held.items()}
                assert spending.settle(control, id_, MODEL, used)
            case "run out", _ if open_:
                control.run(
                    b"UPDATE control.reservations SET expires_at = '-infinity' WHERE id = %(id)s",
                    {"id": open_.pop()[0]},
                )
                assert spending.charge_one(control)
            case "set", ((str(tenant), str(agent)), int(micro)):
                budget(control, tenant, agent, micro)
            case "remove", (str(tenant), str(agent)):
                no_budget(control, tenant, agent)
        wrong = control.run(WRONG)
        assert wrong == []


def over(control: Node) -> set[tuple[str, str]]:
    """The budgets that are over their limits, since these were lowered."""
    return set(
        control.run(
            b"SELECT tenant, agent FROM control.budgets b JOIN control.spending s USING (tenant, agent, period)"
            b" WHERE s.settled + s.reserved > b.limit_micro * 1000000"
        )
    )


WRONG = b"""
SELECT b.tenant, b.agent, s.settled, s.reserved
FROM control.budgets b JOIN control.spending s USING (tenant, agent, period)
WHERE s.settled <> (SELECT coalesce(sum(cost), 0) FROM control.usage u
                    WHERE u.tenant = b.tenant AND b.agent IN ('', u.agent))
   OR s.reserved <> (SELECT coalesce(sum(k * price), 0)
                     FROM control.reservations r CROSS JOIN unnest(r.tenants, r.agents, r.tokens) AS g(t, a, k)
                     WHERE t = b.tenant AND b.agent IN ('', a))
"""
"""Budgets whose counts are not the sums of what was used and what is under way."""


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=50), st.integers(0, 10_000))
def test_shares_add_up_and_none_exceeds_what_was_set_aside(bounds: list[int], total: int) -> None:
    total = min(total, sum(bounds))
    shares = apportioned(total, bounds)
    assert sum(shares) == total
    assert all(0 <= share <= bound for share, bound in zip(shares, bounds, strict=True))


@pytest.mark.timeout(240)
@pytest.mark.parametrize("killed", [0, limits_money.KILLED])
def test_a_race_for_a_budget(settings: Settings, killed: int) -> None:
    with sql(settings) as connection:
        connection.execute("DELETE FROM control.tenants")
    found = limits_money.race(settings, killed=killed)
    assert found.holds, found
    assert (found.killed > 0) == (killed > 0)


class Costly(HashEmbedder):
    """Counts each word as a token, and says so; or refuses."""

    refusal: ProviderRefused | None = None
    asked: int = 0

    def embed(self, texts: Sequence[str]) -> Embedding:
        self.asked += 1
        if self.refusal is not None:
            raise self.refusal
        return super().embed(texts)


@pytest.fixture
def costly(lane: Lane) -> Costly:
    made = Costly(lane.model)
    asks(lane, made)
    return made


@pytest.mark.usefixtures("costly")
def test_what_a_budget_defers_is_stored_found_by_words_and_caught_up(
    lane: Lane, control: Node, settings: Settings
) -> None:
    budget(control, "acme", "", 10)
    *_, last = remembered(lane, item("tea is green"), item("coffee is black"), item("milk is white and cold and sweet"))
    assert count_rows(settings, lane.cluster, "memories") == 3
    shard = lane.cluster.shard(lane.cluster.shard_of("acme", "ada"))
    key = lane.numbers.of(shard, "acme", ["ada"], register=False)["ada"], last.id
    state, why = ids.states(shard, [key])[key]
    assert state is State.STORED
    assert why is not None
    assert why.startswith("budget: used up until 2")
    assert count_rows(settings, lane.cluster, lane.table) == 2
    assert count_rows(settings, lane.cluster, "jobs", "kind = 'embed' AND starts_with(error, 'budget: used up')") == 1
    assert spent(control) == (6, 0)
    found = recalled(lane, "acme", RecallRequest(agent="ada", query="sweet milk"))
    assert "milk is white and cold and sweet" in {hit.memory.content for hit in found.hits}

    remembered(lane, item("tea is green", agent="bob"))  # whose vector the tenant has paid for
    assert count_rows(settings, lane.cluster, lane.table) == 3
    assert usage_saved(control) == (1, 3, 3)

    budget(control, "acme", "", 1000)
    assert sum(batch_embed.resume(lane, number, "acme") for number in range(lane.cluster.shard_count)) == 1
    drain_all(lane, Kind.EMBED)
    assert count_rows(settings, lane.cluster, lane.table) == 4
    assert count_rows(settings, lane.cluster, "jobs") == 0


@pytest.mark.usefixtures("costly")
def test_what_waits_for_money_goes_on_in_slices(
    lane: Lane, control: Node, settings: Settings, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    budget(control, "acme", "", 1)
    remembered(lane, *(item(f"tea number {n}") for n in range(8)))
    waiting = "kind = 'embed' AND not_before > now() AND starts_with(error, 'budget: ')"
    assert count_rows(settings, lane.cluster, "jobs", waiting) == 8
    number = lane.cluster.shard_of("acme", "ada")
    recorder.take()
    monkeypatch.setattr(jobs, "SLICE", 3)
    monkeypatch.setattr(batch_embed, "_RESUMING_S", 0.0)
    for left in (5, 2):
        with pytest.raises(Unavailable, match="ask again"):
            batch_embed.resume(lane, number, "acme")
        assert recorder.take() == [(Kind.EMBED, number)]
        assert count_rows(settings, lane.cluster, "jobs", waiting) == left
    monkeypatch.setattr(batch_embed, "_RESUMING_S", 60.0)
    with sql(settings, lane.cluster.shard(number).node.name) as connection:
        connection.execute(
            f"UPDATE {lane.cluster.shard(number).schema}.jobs SET not_before = now() + interval '1 hour'".encode()
        )
    assert batch_embed.resume(lane, number, "acme") == 8
    assert recorder.take() == [(Kind.EMBED, number)]
    assert count_rows(settings, lane.cluster, "jobs", waiting) == 0


def usage_saved(control: Node) -> tuple[int, int, int]:
    """Texts, tokens and micro-dollars that were saved."""
    ((texts, tokens, cost),) = control.run(
        b"SELECT sum(saved_texts)::int, sum(saved_tokens)::int, (sum(saved_cost) / 1000000)::int FROM control.usage"
    )
    return texts, tokens, cost


def test_one_tenants_empty_budget_holds_up_nobody_else(
    lane: Lane, control: Node, settings: Settings, costly: Costly
) -> None:
    budget(control, "acme", "", 1)
    accepted(lane, *(item(f"tea number {n}") for n in range(20)))
    accepted(lane, *(item(f"tea number {n}") for n in range(5)), tenant="rival")
    drain_all(lane, Kind.REMEMBER)
    assert count_rows(settings, lane.cluster, lane.table) == 5
    assert costly.asked


@pytest.mark.usefixtures("costly")
def test_who_has_money_pays_for_a_text_that_another_cannot_pay_for(
    lane: Lane, control: Node, settings: Settings
) -> None:
    budget(control, "acme", "poor", 1)
    agents = iter(f"rich-{n}" for n in range(1000))
    rich = next(a for a in agents if lane.cluster.shard_of("acme", a) == lane.cluster.shard_of("acme", "poor"))
    remembered(lane, item("tea is green", agent="poor"), item("tea is green", agent=rich))
    assert count_rows(settings, lane.cluster, lane.table) == 2
    assert usage(control).keys() == {Group("acme", rich)}
    assert usage_saved(control) == (1, 3, 3)


@pytest.mark.usefixtures("costly")
def test_a_text_that_comes_twice_is_paid_for_once(lane: Lane, control: Node) -> None:
    remembered(lane, *(item("tea is green", agent=f"agent-{n}") for n in range(4)))
    assert sum(used[3] for used in usage(control).values()) == 3
    assert usage_saved(control) == (3, 9, 9)


@pytest.mark.parametrize(
    ("refusal", "charged"),
    [
        (RateRefused("429", 0.1), 0),
        (ProviderRefused("500", 0.1), 0),
        (ProviderRefused("nobody answered", 0.1, tokens=None), 3),
    ],
)
def test_refusals_cost_what_they_cost(
    lane: Lane, control: Node, costly: Costly, refusal: ProviderRefused, charged: int
) -> None:
    budget(control, "acme", "", 100)
    costly.refusal = refusal
    remembered(lane, item("tea is green"))
    assert spent(control) == (charged, 0)
    assert usage(control)[ADA][:3] == (1, 1, 1)


def test_while_control_is_down_only_those_without_a_budget_go_on(lane: Lane, control: Node) -> None:
    budget(control, "acme", "", 100)
    lend(lane.purse, (ADA, 1), (EVE, 1))
    nowhere = Node("gone", "postgresql://127.0.0.1:1/x", lane.settings, "test", 1)
    nowhere.open()
    lane.purse._control = nowhere
    loan = lend(lane.purse, (ADA, 5), (EVE, 5))
    assert loan.granted.keys() == {1}
    assert isinstance(loan.refused[0], BudgetRefused)
    lane.purse.settle(loan, loan.used({1: 4}))
    lane.purse._control = control
    budget(control, "rival", "", 100)
    lane.purse.saved({EVE: (1, 2)})  # whatever is told next brings along what is not told yet
    nowhere.close()
    assert usage(control)[EVE] == (1, 0, 1, 4, 4)
    assert spent(control, "rival") == (4, 1)  # what control could not be asked for is spent all the same
