"""Health as pure functions: scores, rates, what counts as lost or missed, incidents, advice."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memlane.config.settings import Settings, load_settings
from memlane.contract import wire
from memlane.contract.health import (
    BANDS,
    LEVEL_OF,
    Band,
    Component,
    Finding,
    Health,
    Incident,
    Level,
    Scaling,
    Severity,
    band_of,
    component,
    summary,
)
from memlane.contract.status import BrokerStatus, DutyStatus, MemberStatus, NodeStatus, Role
from memlane.errors import Misconfigured
from memlane.storage.jobs import Backlog
from memlane.storage.processes import Process
from memlane.storage.reports import Figures, Last, Totals
from memlane.tasks.health import database, duties, processes, requests
from memlane.tasks.health.advice import UNEVEN, Load, advise
from memlane.tasks.health.facts import ControlFacts, Facts, NodeFacts
from memlane.tasks.health.incidents import changes, lasted
from memlane.tasks.health.look import Look, judged
from memlane.tasks.health.rates import Grown, grown, p95_ms, share
from memlane.tasks.health.scoring import WEIGHTS, overall

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
SETTINGS = load_settings(profile="test", embedder="hash")
PERIODS = {"analyze": 600.0, "health": 30.0}

severities = st.sampled_from(Severity)
findings = st.builds(
    Finding,
    st.sampled_from(["node a", "node b", "broker"]),
    severities,
    st.just("bad"),
    st.just("mend it"),
    st.booleans(),
)
parts = st.builds(
    lambda name, found, known: component(name, found, known=known),
    st.sampled_from(list(WEIGHTS)),
    st.lists(findings, max_size=15),
    st.booleans(),
)


# --- scores -------------------------------------------------------------------------------


@given(st.lists(findings, max_size=15))
def test_a_component_is_in_the_band_of_its_worst_finding(found: list[Finding]) -> None:
    made = component("broker", found)
    assert 0 <= made.score <= 100
    worst = max((one.severity for one in found), key=lambda one: one.takes, default=None)
    bands: dict[Severity | None, Band]
    bands = {
        None: Band.GOOD,
        **dict(zip(Severity, (Band.FAIR, Band.STRAINED, Band.FAILING, Band.CRITICAL), strict=True)),
    }
    assert made.band is bands[worst] is band_of(made.score)
    taken = [one.severity.takes for one in made.findings]
    assert taken == sorted((one.severity.takes for one in found), reverse=True)


@given(st.lists(findings, max_size=10), findings)
def test_a_further_finding_makes_nothing_better(found: list[Finding], further: Finding) -> None:
    assert component("broker", [*found, further]).score <= component("broker", found).score


@given(st.lists(parts, max_size=6), parts)
def test_the_whole_is_as_good_as_its_worst_part(found: list[Component], further: Component) -> None:
    score = overall(found)
    assert 0 <= score <= 100
    assert overall([*found, further]) == min(score, overall([further])) <= score
    assert overall([further]) >= further.score  # a part that means less harms less
    if WEIGHTS[further.name] == 100:
        assert overall([further]) == further.score


def test_the_bands_are_those_that_are_written_down() -> None:
    assert [(least, band.value) for least, band in BANDS] == [
        *((90, "good"), (70, "fair"), (50, "strained"), (30, "failing"), (0, "critical"))
    ]
    assert set(LEVEL_OF) == set(Severity) - {Severity.NOTICE}


# --- rates --------------------------------------------------------------------------------


def bucket(le: str, operation: str = "recall") -> str:
    return f'memlane_operation_seconds_bucket{{le="{le}",operation="{operation}"}}'


def recalls(*times_s: float, operation: str = "recall") -> dict[str, float]:
    """What a histogram of these times counts."""
    bounds = ("0.01", "0.05", "0.1", "0.25", "1", "+Inf")
    counts = {bucket(le, operation): float(sum(t <= float(le) for t in times_s)) for le in bounds}
    return {**counts, f'memlane_operation_seconds_count{{operation="{operation}"}}': float(len(times_s))}


@given(st.lists(st.floats(0.0001, 5), min_size=20, max_size=200))
def test_the_p95_lies_between_the_bounds_of_its_bucket(times_s: list[float]) -> None:
    found = p95_ms(Grown(60, recalls(*times_s)), "recall", 20)
    assert found is not None
    exact = sorted(times_s)[-(-len(times_s) * 95 // 100) - 1]
    bounds = [0.0, 0.01, 0.05, 0.1, 0.25, 1.0]
    lower = max(bound for bound in bounds if bound < exact)
    upper = min((bound for bound in bounds if bound >= exact), default=1.0)
    assert lower * 1000 - 1e-6 <= found <= upper * 1000 + 1e-6


def test_few_requests_say_nothing() -> None:
    assert p95_ms(Grown(60, recalls(*[5.0] * 19)), "recall", 20) is None
    assert p95_ms(Grown(60, {}), "recall", 1) is None
    assert share(1, 19, 20) is None
    assert share(5, 20, 20) == 25


def test_counts_that_fell_were_counted_anew() -> None:
    name = 'memlane_busy_seconds_total{class="ingest"}'
    assert grown({name: 5}, {name: 7, "memlane_jobs": 9}, 1).counts == {name: 2}
    assert grown({name: 5}, {name: 3}, 1).counts == {name: 3}
    assert grown({}, {name: 3}, 1).sum("memlane_busy_seconds_total", **{"class": "ingest"}) == 3


def test_labels_may_have_quotes() -> None:
    growth = Grown(1, {r'memlane_operation_errors_total{error="a\"b",operation="x,y"}': 2.0})
    assert [(dict(labels), n) for labels, n in growth.of("memlane_operation_errors_total", operation="x,y")] == [
        ({"error": 'a"b', "operation": "x,y"}, 2.0)
    ]


def slow(ms: float, count: int = 40, operation: str = "search") -> list[Finding]:
    counts = recalls(*[ms / 1000] * count, operation=operation)
    return list(requests.judge(Grown(60, counts), SETTINGS).findings)


def test_slow_recalls_are_found_and_a_handful_is_not() -> None:
    assert slow(40) == []
    assert slow(900, 5) == []
    assert [(one.subject, one.severity) for one in slow(200)] == [("time of search", Severity.WARNING)]
    assert [one.severity for one in slow(900)] == [Severity.ERROR]
    assert slow(900, operation="recall") == []  # its question may have to be embedded


def test_errors_of_callers_are_no_failures() -> None:
    counts = recalls(*[0.01] * 100)

    def failing(error: str, times: float) -> list[Severity]:
        growth = Grown(60, {**counts, f'memlane_operation_errors_total{{error="{error}",operation="recall"}}': times})
        return [one.severity for one in requests.judge(growth, SETTINGS).findings]

    assert failing("NodeDown", 5) == []
    assert failing("NodeDown", 6) == [Severity.WARNING]
    assert failing("NodeDown", 50) == [Severity.ERROR]
    assert failing("InvalidInput", 100) == failing("RateLimited", 100) == []


def test_a_cache_of_what_is_new_each_time_needs_no_hits() -> None:
    counts = {'memlane_cache_requests_total{cache="embeddings",result="miss"}': 1000.0}
    assert not requests.judge_cache(Grown(60, counts), None, SETTINGS).findings


def test_a_cache_of_little_use_is_found() -> None:
    def judge(hits: float, misses: float, most: float | None = None) -> list[Severity]:
        counts = {
            'memlane_cache_requests_total{cache="questions",result="hit"}': hits,
            'memlane_cache_requests_total{cache="questions",result="miss"}': misses,
        }
        return [one.severity for one in requests.judge_cache(Grown(60, counts), most, SETTINGS).findings]

    assert judge(0, 19) == []
    assert judge(70, 30) == []
    assert judge(55, 45) == [Severity.NOTICE]
    assert judge(10, 90) == judge(10, 90, 59) == [Severity.NOTICE]  # questions that are new each time
    assert judge(55, 45, 80) == [Severity.NOTICE]
    assert judge(10, 90, 60) == [Severity.WARNING]


# --- the whole ----------------------------------------------------------------------------


def process(
    name: str,
    class_: str = "ingest",
    began_s: float = 3600,
    silent_s: float = 1,
    gauges: Mapping[str, float] | None = None,
) -> Process:
    """A process that began and was heard of so many seconds ago."""
    began, seen = NOW - timedelta(seconds=began_s), NOW - timedelta(seconds=silent_s)
    return Process(name, class_, began, seen, silent_s, gauges or {})


CREW = (process("i"), process("s", "sweep"), process("b", "beat"), process("g", "gateway"))
UP = BrokerStatus("redis", True, {"appendonly": "yes", "maxmemory-policy": "noeviction"})


KNOWN = frozenset({"ingest", "sweep", "beat"})


def facts(*crew: Process, broker: BrokerStatus | None = UP, node: NodeStatus | None = None, **control: object) -> Facts:
    """A look at a system of one node, at which all is well unless said otherwise."""
    known = ControlFacts(NOW, crew or CREW, _ran(), **{"classes": KNOWN, **control})  # type: ignore[arg-type]  # as given
    up = node or NodeStatus("node-1", True, {"fsync": "on"})
    return Facts("node-1", {"node-1": NodeFacts(up, {0: []}, {})}, broker, known)


def _ran() -> Sequence[DutyStatus]:
    at = NOW - timedelta(seconds=20)
    return [DutyStatus(name, at, "b", at, at, "done", "all") for name in PERIODS]


def seen(found: Facts) -> Look:
    return judged(found, SETTINGS, PERIODS)


def subjects(found: Facts) -> dict[str, Severity]:
    return {one.subject: one.severity for part in seen(found).health.components for one in part.findings}


def test_all_is_well() -> None:
    health = seen(facts(before=Totals(300.0, {}))).health
    assert (health.score, health.band, summary(health).reasons, health.advice) == (100, Band.GOOD, (), ())
    assert all(part.known for part in health.components)
    assert {part.name for part in health.components} == set(WEIGHTS)
    assert wire.dump(wire.load(Health, wire.dump(health))) == wire.dump(health)


def test_a_control_that_does_not_answer_hides_what_only_it_knows() -> None:
    found = Facts(
        "node-1", {"node-1": NodeFacts(None), "node-2": NodeFacts(NodeStatus("node-2", True, {}), {1: []})}, UP, None
    )
    parts = {part.name: part for part in seen(found).health.components}
    assert seen(found).health.score == 0
    assert {name for name, part in parts.items() if not part.known} == {
        *("processes", "duties", "queue", "requests", "resources", "pools", "cache", "indexes", "money")
    }
    (down,) = parts["database"].findings
    assert (down.subject, down.sure) == ("node node-1", False)
    assert "control" in down.reason


def test_replication_is_looked_at() -> None:
    def with_standby(member: MemberStatus, names: str = "*") -> dict[str, Severity]:
        settings = {"synchronous_standby_names": names} if names else {}
        return subjects(facts(node=NodeStatus("node-1", True, settings, (MemberStatus("a", Role.PRIMARY), member))))

    assert with_standby(MemberStatus("b", Role.STANDBY)) == {}
    assert with_standby(MemberStatus("b", Role.STANDBY, 10**9)) == {"standby b": Severity.WARNING}
    assert with_standby(MemberStatus("b", Role.DOWN)) == {"standbys of node node-1": Severity.WARNING}
    assert with_standby(MemberStatus("b", Role.STANDBY), "") == {"standbys of node node-1": Severity.ERROR}
    assert with_standby(MemberStatus("b", Role.PRIMARY)) == {"standbys of node node-1": Severity.CRITICAL}


def test_a_shard_that_is_not_open_is_found() -> None:
    found = Facts("node-1", {"node-1": NodeFacts(NodeStatus("node-1", True, {}), {3: None})}, UP, None)
    assert [one.subject for one in database.judge(found, SETTINGS).findings] == ["shard 3"]


def test_old_and_parked_jobs_are_found() -> None:
    def waiting(oldest_s: float, parked: int = 0, kind: str = "remember") -> dict[str, Severity]:
        node = NodeFacts(NodeStatus("node-1", True, {}), {0: [Backlog(kind, 5, 0, parked, oldest_s, 0)]})
        found = Facts("node-1", {"node-1": node}, UP, facts().control)
        return subjects(found)

    assert waiting(5) == {}
    assert waiting(61) == {"remember jobs": Severity.WARNING}
    assert waiting(599, kind="forget") == waiting(3599, kind="optimize") == {}
    assert waiting(601, kind="forget") == {"forget jobs": Severity.WARNING}
    assert waiting(601, 2) == {"remember jobs": Severity.ERROR, "parked remember jobs": Severity.NOTICE}


def test_memory_and_connections_are_found() -> None:
    def gauge(series: str, value: float) -> dict[str, Severity]:
        return subjects(facts(*CREW[1:], process("i", gauges={series: value})))

    assert gauge('memlane_memory_percent{class="ingest"}', 79) == {}
    assert gauge('memlane_memory_percent{class="ingest"}', 80) == {"memory of ingest": Severity.WARNING}
    assert gauge('memlane_memory_percent{class="ingest"}', 95) == {"memory of ingest": Severity.ERROR}
    assert gauge('memlane_pool_waiting{node="node-1"}', 3) == {"connections to node-1": Severity.NOTICE}
    exhausted = 'memlane_pool_exhausted_total{node="node-1"}'
    grew = facts(counts={exhausted: 4.0}, before=Totals(60.0, {exhausted: 1.0}))
    assert subjects(grew) == {"connections to node-1": Severity.WARNING}


def test_busy_processors_are_found_and_spent_budgets_said() -> None:
    def busy(seconds: float, oldest_s: float = 0.0, class_: str = "ingest") -> dict[str, Severity]:
        counts = {f'memlane_cpu_seconds_total{{class="{class_}"}}': seconds}
        node = NodeFacts(NodeStatus("node-1", True, {}), {0: [Backlog("embed", 5, 0, 0, oldest_s, 0)]})
        control = facts(counts=counts, before=Totals(100.0, {})).control
        return subjects(Facts("node-1", {"node-1": node}, UP, control))

    assert busy(79) == {}
    assert busy(90) == {"processor of ingest": Severity.NOTICE}
    assert busy(99) == {"processor of ingest": Severity.NOTICE}  # it embeds
    assert busy(99, 61) == {"processor of ingest": Severity.WARNING, "embed jobs": Severity.WARNING}
    assert busy(99, class_="sweep") == {"processor of sweep": Severity.WARNING}
    assert subjects(facts(budgets_spent=2)) == {"budgets": Severity.NOTICE}


# --- who is lost --------------------------------------------------------------------------


def test_who_is_lost_and_who_is_replaced() -> None:
    others = CREW[1:]
    two = (process("i1"), process("i2", silent_s=30))
    assert subjects(facts(*others, *two)) == {"ingest processes": Severity.ERROR}
    replaced = (*two, process("i3", began_s=10))
    assert subjects(facts(*others, *replaced)) == {"ingest processes": Severity.NOTICE}
    again = (process("i3", began_s=60, silent_s=25), process("i4", began_s=60), process("i5", began_s=20))
    first = (process("i1", silent_s=70), process("i2", silent_s=70))
    assert subjects(facts(*others, *first, *again)) == {"ingest processes": Severity.NOTICE}  # one that came died too
    assert subjects(facts(*others, *first, *again[:2])) == {"ingest processes": Severity.ERROR}
    assert subjects(facts(*others, process("i1"), process("i2", silent_s=130), process("i3", began_s=10))) == {}
    assert subjects(facts(*others, process("i2", silent_s=30))) == {"ingest processes": Severity.CRITICAL}
    assert subjects(facts(*others)) == {"ingest processes": Severity.CRITICAL}
    assert subjects(facts(*others, classes=frozenset())) == {}  # those of the version before do not tell that they live
    assert subjects(facts(CREW[0], CREW[1], CREW[2])) == {}  # nobody needs a gateway that never was
    assert subjects(facts(*CREW, process("u", "upkeep", silent_s=30))) == {"upkeep processes": Severity.CRITICAL}


def test_who_could_not_tell_that_he_lives_is_not_lost() -> None:
    silent = [process(one.name, one.class_, silent_s=60) for one in CREW]
    found = seen(facts(*silent, steady_s=5.0)).health
    assert not next(part for part in found.components if part.name == "processes").known
    assert subjects(facts(*silent, steady_s=5.0)) == {}


def test_beats_are_not_missed_where_nobody_could_hear_them() -> None:
    crew = (CREW[0], CREW[1], process("b", "beat", silent_s=50))
    assert subjects(facts(CREW[0], CREW[1], process("b", "beat", silent_s=40))) == {}  # a slow sweep
    assert subjects(facts(*crew)) == {"beat processes": Severity.CRITICAL}
    assert subjects(facts(*crew, broker=None)) == {"broker": Severity.CRITICAL}
    down = seen(facts(broker=BrokerStatus("redis", False, {}))).health
    assert subjects(facts(*crew, last=Last(10.0, down))) == {}
    young = (CREW[0], process("s", "sweep", began_s=10), crew[2])
    assert subjects(facts(*young)) == {}


@given(st.lists(st.tuples(st.floats(0, 4000), st.floats(0, 4000)), max_size=8))
def test_only_who_is_lost_is_forgotten(times: list[tuple[float, float]]) -> None:
    found = [process(str(n), began_s=max(a, b), silent_s=min(a, b)) for n, (a, b) in enumerate(times)]
    gone = processes.forgettable(found, SETTINGS)
    by_name = {one.name: one for one in found}
    assert len(gone) == len(set(gone))
    for name in gone:
        assert by_name[name].silent_s >= processes.REPLACED_S
    assert {one.name for one in found if one.silent_s >= processes.UNREPLACED_S} <= set(gone)
    missed = {one.name for one in processes.unreplaced(found, SETTINGS.lost_s)}
    assert {name for name in gone if by_name[name].silent_s < processes.UNREPLACED_S}.isdisjoint(missed)
    last = max(found, key=lambda one: one.seen_at, default=None)
    assert last is None or last.silent_s < SETTINGS.lost_s or last.name in missed  # nobody came after that one


# --- duties -------------------------------------------------------------------------------


ANALYZE = {"analyze": 600.0}


def missed(control: ControlFacts, periods: Mapping[str, float] = ANALYZE, **jobs: Backlog) -> dict[str, Severity]:
    node = NodeFacts(NodeStatus("node-1", True, {}), {0: list(jobs.values())})
    found = duties.judge(Facts("node-1", {"node-1": node}, UP, control), periods, SETTINGS)
    return {one.subject: one.severity for one in found.findings}


def ended(outcome: str | None, age_s: float = 20, **more: object) -> dict[str, Severity]:
    at = NOW - timedelta(seconds=age_s)
    run = DutyStatus("analyze", at, "b", at, at if outcome else None, outcome, "why", **more)  # type: ignore[arg-type]
    return missed(ControlFacts(NOW, CREW, [run]))


def test_duties_that_end_badly_are_found() -> None:
    assert ended("done") == ended(None) == {}
    for found in (ended("failed"), ended("stopped"), ended(None, broken_off=True)):
        assert found == {"duty analyze": Severity.WARNING}


def test_a_missed_duty_is_found_once_somebody_sent_for_it_in_vain() -> None:
    assert ended("done", 1200) == {}
    assert ended("done", 1231) == {"duty analyze": Severity.ERROR}

    ahead = NOW + timedelta(hours=1)  # control's clock was set back since
    control = ControlFacts(NOW, CREW, [DutyStatus("analyze", ahead, "b", ahead, ahead, "done", "all")])
    assert missed(control) == {"duty analyze": Severity.ERROR}

    def never(beat_s: float, silent_s: float = 1, steady_s: float = 9999.0) -> list[str]:
        control = ControlFacts(NOW, [process("b", "beat", beat_s, silent_s)], steady_s=steady_s)
        return list(missed(control))

    assert never(1000) == []  # it was not due yet
    assert never(1300) == ["duty analyze"]
    assert never(1300, silent_s=60) == []  # that the beat is gone is said of the beat
    assert never(1300, steady_s=600.0) == []  # control was away


def test_who_waits_for_a_long_build_on_the_same_queue_is_not_missed() -> None:
    at, periods = NOW - timedelta(seconds=300), {"vacuum": 600.0, "retention": 60.0, "expire": 60.0}

    def found(run: DutyStatus, **jobs: Backlog) -> set[str]:
        long_ago = NOW - timedelta(hours=1)
        others = [DutyStatus(n, long_ago, "b", long_ago, long_ago, "done", "") for n in ("retention", "expire")]
        return set(missed(ControlFacts(NOW, CREW, [run, *others]), periods, **jobs))

    done = DutyStatus("vacuum", at, "b", at, at, "done", "")
    assert found(done) == {"duty retention", "duty expire"}
    assert found(DutyStatus("vacuum", at, "b", at)) == {"duty expire"}
    assert found(DutyStatus("vacuum", at, "b", at, broken_off=True)) >= {"duty retention", "duty expire"}
    assert found(done, index=Backlog("optimize", 1, 1, 0, 0, 0)) == {"duty expire"}
    assert found(done, index=Backlog("optimize", 1, 0, 0, 0, 0)) == {"duty retention", "duty expire"}


# --- incidents ----------------------------------------------------------------------------


def health(*found: Finding, known: bool = True) -> Health:
    part = component("broker", found, known=known)
    return Health(NOW, overall([part]), part.band, (part,))


def bad(severity: Severity = Severity.WARNING, sure: bool = False) -> Finding:
    return Finding("broker", severity, "is bad", "mend it", sure)


def incident(level: Level = Level.WARNING) -> Incident:
    return Incident("broker", "broker", level, "t", "d", NOW)


def test_an_incident_begins_at_the_second_look_or_at_once() -> None:
    assert changes(health(bad()), None, []).begun == ()
    assert changes(health(bad()), health(), []).begun == ()
    (begun,) = changes(health(bad()), health(bad()), []).begun
    assert (begun.level, begun.subject, "mend it" in begun.detail) == (Level.WARNING, "broker", True)
    (begun,) = changes(health(bad(Severity.CRITICAL, sure=True)), None, []).begun
    assert begun.level is Level.CRITICAL
    (begun,) = changes(health(bad(Severity.CRITICAL)), health(bad()), []).begun
    assert begun.level is Level.WARNING  # the milder of both
    assert changes(health(bad(Severity.NOTICE)), health(bad(Severity.NOTICE)), []).begun == ()


def test_an_incident_gets_worse_once_and_is_over_after_two_good_looks() -> None:
    worse = bad(Severity.ERROR)
    assert [one.level for one in changes(health(worse), health(worse), [incident()]).begun] == [Level.ERROR]
    assert changes(health(worse), health(worse), [incident(Level.ERROR)]).goes_on == ("broker",)
    assert changes(health(bad()), health(worse), [incident(Level.ERROR)]).begun == ()
    assert changes(health(), health(bad()), [incident()]).over == ()
    assert changes(health(), None, [incident()]).over == ()
    assert changes(health(), health(), [incident()]).over == ("broker",)
    assert changes(health(), health(known=False), [incident()]).over == ()
    assert changes(health(known=False), health(), [incident()]).over == ()


@given(st.lists(st.lists(findings, max_size=4), min_size=1, max_size=30))
def test_incidents_are_told_once_whatever_the_looks_say(looks: list[list[Finding]]) -> None:
    going: dict[str, Incident] = {}
    before: Health | None = None
    for found in looks:
        now = health(*found)
        change = changes(now, before, going.values())
        for begun in change.begun:
            known = going.get(begun.subject)
            assert known is None or begun.level.rank > known.level.rank
            going[begun.subject] = begun
        assert set(change.over) <= set(going)
        assert set(change.over).isdisjoint(one.subject for one in found if one.severity in LEVEL_OF)
        for subject in change.over:
            del going[subject]
        for one in found:
            if one.sure and one.severity in LEVEL_OF:
                assert going[one.subject].level.rank >= LEVEL_OF[one.severity].rank
        before = now
    quiet = health()
    for _ in range(2):
        for subject in changes(quiet, before, going.values()).over:
            del going[subject]
        before = quiet
    assert going == {}


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.4, "0 s"), (59.6, "1 min 0 s"), (3599, "59 min 59 s"), (7260, "2 h 1 min")]
)
def test_how_long_it_lasted(seconds: float, said: str) -> None:
    assert lasted(seconds) == said


# --- advice -------------------------------------------------------------------------------

figures = st.builds(
    Figures,
    queue_age_s=st.floats(0, 2000),
    open_jobs=st.integers(0, 1000),
    over_budget=st.integers(0, 3),
    utilisation=st.none() | st.floats(0, 1),
    recall_ms=st.none() | st.floats(0, 500),
    refusals=st.integers(0, 3).map(float),
)
loads = st.lists(
    st.builds(Load, st.sampled_from(["a", "b", "c"]), st.integers(0, 9), st.integers(0, 10**11)),
    max_size=3,
    unique_by=lambda load: load.node,
)


def given_for(trend: Sequence[Figures], on: Sequence[Load] = ()) -> list[Scaling]:
    return [one.advice for one in advise(trend, on, SETTINGS)]


@given(st.lists(figures, max_size=8), loads)
def test_advice_has_its_reasons(trend: list[Figures], on: list[Load]) -> None:
    found = given_for(trend, on)
    assert len(found) == len(set(found))
    if len(trend) < 3:
        assert set(found) <= {Scaling.REBALANCE}
    if Scaling.ADD_WORKERS in found:
        assert all(one.queue_age_s > SETTINGS.queue_warn_s for one in trend)
        assert any((one.utilisation or 0) >= 0.8 for one in trend)
    if Scaling.ADD_NODE in found:
        assert Scaling.REBALANCE not in found
        assert all(one.recall_ms is not None and one.recall_ms > SETTINGS.recall_warn_ms for one in trend)
    if Scaling.REBALANCE in found:
        assert len(on) >= 2
    if Scaling.RAISE_LIMIT in found:
        assert trend[-1].refusals
        assert Scaling.ADD_WORKERS not in found


def test_what_is_advised_when() -> None:
    def rising(**more: float) -> list[Figures]:
        return [Figures(queue_age_s=age, **more) for age in (70.0, 90.0, 120.0)]  # type: ignore[arg-type]

    assert given_for(rising(utilisation=0.95)) == [Scaling.ADD_WORKERS]
    assert given_for(rising(utilisation=0.95)[::-1]) == []  # it gets better by itself
    assert given_for(rising(utilisation=0.2)) == []
    assert given_for(rising(utilisation=0.2, refusals=3)) == [Scaling.RAISE_LIMIT]
    assert given_for([Figures(over_budget=1000, open_jobs=1000)] * 3) == []  # a tenant's budget is its own
    slow = [Figures(recall_ms=200)] * 3
    assert given_for(slow, [Load("a", 4, 10**10)]) == [Scaling.ADD_NODE]
    assert given_for(slow, [Load("a", 6, 10**10), Load("b", 4, 10**10)]) == [Scaling.REBALANCE]
    uneven = [Load("a", 4, int(10**10 * UNEVEN * 3)), Load("b", 4, 10**9)]
    assert given_for([], uneven) == [Scaling.REBALANCE]
    assert given_for([], [Load("a", 4, 10**6), Load("b", 4, 0)]) == []  # too little to move


def test_shards_are_counted_by_the_map() -> None:
    up = NodeStatus("n", True, {})
    nodes = {"a": NodeFacts(up, None, {"s": 1}, shards=4), "b": NodeFacts(up, {0: []}, {"s": 1}, shards=4)}
    assert (
        seen(Facts("a", nodes, UP, facts().control)).health.advice == ()
    )  # a counted no jobs, and has them all the same
    silent = {**nodes, "b": NodeFacts(None, shards=2)}
    assert seen(Facts("a", silent, UP, facts().control)).health.advice == ()


# --- settings -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        {"memory_warn_percent": 96},
        {"cpu_warn_percent": 95.0},
        {"cache_least_percent": 70.0},
        {"queue_warn_s": 700.0},
        {"recall_warn_ms": 1001.0},
        {"watchdog_s": 60.0},
        {"health_window_s": 45.0},
        {"health_every_s": 4},
        {"incident_level": "dreadful"},
    ],
    ids=str,
)
def test_thresholds_have_to_hold_together(wrong: dict[str, object]) -> None:
    with pytest.raises(Misconfigured):
        load_settings(**wrong)


def test_the_defaults_are_those_that_the_docs_give() -> None:
    found: Settings = SETTINGS
    assert (found.memory_warn_percent, found.memory_stop_percent, found.cpu_warn_percent) == (80, 95, 80)
    assert (found.response_warn_ms, found.recall_warn_ms, found.error_warn_percent) == (1000, 100, 5)
    assert (found.cache_warn_percent, found.cache_least_percent, found.incident_level) == (60, 50, Level.WARNING)
