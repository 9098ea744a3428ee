"""The pulse: processes say how they are, those that are gone stay in the sums, and beats are spoken for."""

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.samples import Sample

from memlane.config.settings import Settings
from memlane.gateway.together import Together
from memlane.storage import processes
from memlane.tasks.lane import Lane
from memlane.tasks.measures import Measures
from memlane.tasks.pulse import BEAT, Pulse, new_name
from memlane.tasks.series import parsed, series
from tests.support import eventually, sql

CLAIMED = 'memlane_jobs_finished_total{kind="remember",outcome="stored"}'


def finished(lane: Lane) -> float:
    return processes.counts(lane.cluster.control).get(CLAIMED, 0.0)


def beating(lane: Lane) -> Pulse:
    lane.settings = lane.settings.model_copy(update={"pulse_s": 0.05})
    pulse = Pulse(lane, new_name(), "ingest")
    pulse.start()
    return pulse


def test_a_process_says_how_it_is(lane: Lane) -> None:
    lane.measures.claim("remember", 7, 0.5, {"stored": 7})
    pulse = beating(lane)
    eventually(lambda: finished(lane) == 7)
    (process,) = processes.living(lane.cluster.control)
    assert process.class_ == "ingest"
    (resident,) = (value for key, value in process.gauges.items() if key.startswith("memlane_resident_bytes"))
    assert resident > 1_000_000
    assert process.silent_s < 10
    pulse.stop()
    assert processes.living(lane.cluster.control) == []


def test_what_the_gone_have_counted_stays_in_the_sums(lane: Lane) -> None:
    for _ in range(3):  # each begins at nothing, and tells as much
        pulse = Pulse(lane, new_name(), "ingest")
        lane.measures = type(lane.measures)("ingest")
        lane.measures.claim("remember", 5, 0.1, {"stored": 5})
        pulse.start()
        pulse.stop()
    assert finished(lane) == 15


def test_who_was_given_up_and_comes_back_is_not_counted_twice(lane: Lane, settings: Settings) -> None:
    lane.measures.claim("remember", 5, 0.1, {"stored": 5})
    pulse = beating(lane)
    eventually(lambda: finished(lane) == 5)
    with sql(settings) as connection:
        connection.execute("SELECT control.retire(ARRAY(SELECT name FROM control.processes))")
    eventually(lambda: len(processes.living(lane.cluster.control)) == 1)
    lane.measures.claim("remember", 2, 0.1, {"stored": 2})
    eventually(lambda: finished(lane) >= 7)
    pulse.stop()
    assert finished(lane) == 7


def test_a_lost_process_is_given_up_after_its_time(lane: Lane, settings: Settings) -> None:
    processes.begin(lane.cluster.control, "lost", "ingest", processes.Report({}, {CLAIMED: 3.0}))
    processes.forget(lane.cluster.control, ["lost"], 60.0)
    assert [process.name for process in processes.living(lane.cluster.control)] == ["lost"]
    with sql(settings) as connection:
        connection.execute("UPDATE control.processes SET seen_at = now() - interval '61 seconds'")
    processes.forget(lane.cluster.control, ["lost"], 60.0)
    assert processes.living(lane.cluster.control) == []
    assert finished(lane) == 3


def test_a_beat_lives_while_its_messages_come(lane: Lane) -> None:
    pulse = beating(lane)
    pulse.heard("beat-1")
    eventually(lambda: "beat-1" in {p.name for p in processes.living(lane.cluster.control) if p.class_ == BEAT})
    pulse.stop()


def test_a_beat_that_said_good_bye_stays_away_whoever_heard_of_it_before(lane: Lane, settings: Settings) -> None:
    def beats() -> set[str]:
        return {process.name for process in processes.living(lane.cluster.control) if process.class_ == BEAT}

    control = lane.cluster.control
    two = beating(lane), beating(lane)
    for pulse in two:
        pulse.heard("beat-1")
        pulse.heard("beat-2")
    eventually(lambda: beats() == {"beat-1", "beat-2"})
    two[0].gone("beat-1")
    assert beats() == {"beat-2"}
    processes.heard(control, BEAT, {"beat-1": 1.0})  # as the other says
    assert beats() == {"beat-2"}
    two[1].gone("beat-2")
    assert BEAT in processes.classes(control)  # and so is missed, though none has a row that counts
    for pulse in two:
        pulse.stop()
    with sql(settings) as connection:
        connection.execute("UPDATE control.processes SET seen_at = now() - interval '6 minutes'")
        processes.drop_gone(control)
        assert connection.execute("SELECT count(*) FROM control.processes").fetchone() == (0,)
    assert BEAT in processes.classes(control)


def test_a_control_that_is_down_is_missed_and_harms_nothing(lane: Lane) -> None:
    lane.cluster.control.close()
    pulse = beating(lane)
    pulse.stop()


def test_all_processes_together(lane: Lane) -> None:
    control = lane.cluster.control
    for name, memory in (("one", 50.0), ("two", 70.0)):
        measures = Measures("ingest")
        measures.claim("remember", 5, 0.25, {"stored": 4})
        measures.memory(memory, 0)
        measures.operation('odd "name"\\n', 0.2, "NodeDown")
        now = measures.now()
        processes.begin(
            control, name, "ingest", processes.Report({**now.gauges, "new": 1.0}, {**now.counts, "n_total": 1.0})
        )
    assert processes.beat(
        control, "one", processes.Report({**now.gauges, "memory": 1.0}, now.counts)
    )  # beside the other
    seen = Together()
    seen.look(control, 60.0)
    registry = CollectorRegistry()
    registry.register(seen)
    read = registry.get_sample_value
    assert read("memlane_jobs_finished_total", {"kind": "remember", "outcome": "stored"}) == 8
    assert read("memlane_batch_jobs_bucket", {"kind": "remember", "le": "16.0"}) == 2
    assert read("memlane_memory_percent", {"class": "ingest"}) == 70
    assert read("memlane_operation_errors_total", {"operation": 'odd "name"\\n', "error": "NodeDown"}) == 2
    assert read("memlane_processes", {"class": "ingest"}) == 2
    assert read("n_total") is None  # of a newer version
    generate_latest(registry)
    seen.look(control, 0.0)
    assert read("memlane_processes_lost", {"class": "ingest"}) == 2


def test_who_was_replaced_is_not_lost(lane: Lane, settings: Settings) -> None:
    control = lane.cluster.control
    for name in ("gone", "killed"):
        processes.begin(control, name, "ingest", processes.Report({}, {}))
    with sql(settings, control.name) as connection:
        connection.execute(
            "UPDATE control.processes SET started_at = now() - interval '1 h', seen_at = now() - interval '1 m'"
        )
    processes.begin(control, "came", "ingest", processes.Report({}, {}))
    seen, registry = Together(), CollectorRegistry()
    registry.register(seen)
    seen.look(control, 20.0)
    assert registry.get_sample_value("memlane_processes", {"class": "ingest"}) == 1
    assert registry.get_sample_value("memlane_processes_lost", {"class": "ingest"}) == 1


def test_a_cache_that_never_hit_says_so() -> None:
    measures = Measures("ingest")
    measures.cache("questions", misses=1)
    counts = measures.now().counts
    assert counts['memlane_cache_requests_total{cache="questions",result="hit"}'] == 0
    assert counts['memlane_cache_requests_total{cache="questions",result="miss"}'] == 1


@given(st.dictionaries(st.from_regex(r"[a-z]+", fullmatch=True), st.text(), max_size=3))
def test_the_name_of_a_series_is_read_as_it_was_written(labels: dict[str, str]) -> None:
    assert parsed(series(Sample("memlane_x", labels, 1.0))) == ("memlane_x", labels)
