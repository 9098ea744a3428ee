"""The pace: what a provider lets through is shared by all processes, with Redis, and kept without."""

import random
import signal
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from time import monotonic, sleep
from uuid import uuid4

import pytest
from structlog.testing import capture_logs

from memlane.bench import limits_rate
from memlane.bench.provider import FakeProvider
from memlane.config.settings import load_settings
from memlane.embedded.ports import free_port
from memlane.embedded.process import spawn
from memlane.embedded.redis import Redis
from memlane.errors import RateRefused
from memlane.tasks.pace import make_pace
from memlane.tasks.pace.alone import AlonePace
from memlane.tasks.pace.contract import Limits, Rules
from memlane.tasks.pace.line import Line, Outcome
from memlane.tasks.pace.shared import SharedPace
from tests.integration.test_embedders import serving
from tests.pacing import Course, ask_together, die_in_a_place
from tests.support import eventually

LONG_S = 100_000.0
SHORT = Rules(window_s=3.0, used=0.85)
"""A minute of three seconds, with room for a machine that is slow."""

MakeCourse = Callable[..., Course]


@pytest.fixture
def course(redis_server: Redis) -> MakeCourse:
    """Makes lines that nobody else stands in."""

    def make(limits: Limits, rules: Rules = Rules(), **more: object) -> Course:  # noqa: B008  # frozen
        return replace(Course(redis_server.uri(2), "", uuid4().hex, limits, rules), **more)  # type: ignore[arg-type]

    return make


def moments(line: Line, count: int, tokens: Callable[[], int] = lambda: 1) -> list[tuple[float, int]]:
    """Moments and bounds of turns that are taken one after the other; nobody waits for them."""
    bounds = [tokens() for _ in range(count)]
    return [(line.turn(uuid4().hex, bound, LONG_S, 0).at / 1e6, bound) for bound in bounds]


def most_in_a_window(found: list[tuple[float, int]], window_s: float) -> int:
    """The largest sum over any window."""
    return max(sum(tokens for later, tokens in found if moment <= later < moment + window_s) for moment, _ in found)


def test_a_window_never_has_a_request_too_many(course: MakeCourse) -> None:
    for rpm in (1, 7, 60, 500):
        line = course(Limits(requests=rpm)).pace().line
        found = moments(line, 3 * rpm + 1)
        assert most_in_a_window(found, 60) <= rpm
        assert found[-1][0] - found[0][0] <= 3 * 60 / 0.97


@pytest.mark.parametrize("largest", [10, 100, 600, 1000])
def test_a_window_never_has_a_token_too_many(course: MakeCourse, largest: int) -> None:
    chance = random.Random(largest)
    line = course(Limits(tokens=1000)).pace().line
    found = moments(line, 150, lambda: chance.randint(1, largest))
    assert most_in_a_window(found, 60) <= 1000
    took = found[-1][0] - found[0][0]
    if largest <= 100:
        assert sum(tokens for _, tokens in found) / took > 0.9 * 1000 / 60


def test_tokens_are_spread_over_the_minute(course: MakeCourse) -> None:
    found = moments(course(Limits(tokens=1000)).pace().line, 30, lambda: 100)
    gaps = [later - earlier for (earlier, _), (later, _) in pairwise(found)]
    assert gaps == pytest.approx([6 / 0.98] * 29, abs=0.7)


def test_what_exceeds_a_limit_goes_alone(course: MakeCourse) -> None:
    line = course(Limits(tokens=1000)).pace().line
    found = moments(line, 3, lambda: 2500)
    assert all(later - earlier >= 60 for (earlier, _), (later, _) in pairwise(found))


def test_tokens_that_were_not_needed_come_back(course: MakeCourse) -> None:
    pace = course(Limits(tokens=10_000)).pace()
    pace.turn(9000, 1).used(100)
    pace.turn(8000, 10).used(None)  # after the moment that 100 tokens take, not 9000
    with pytest.raises(RateRefused) as caught:
        pace.turn(9000, 1)
    assert 40 < caught.value.retry_after_s < 65


def test_loose_bounds_hold_nothing_free(course: MakeCourse) -> None:
    pace = course(Limits(tokens=10_000)).pace()
    pace.turn(8000, 1).used(800)
    assert pace.line.turn("next", 8000, LONG_S, 0).kept in (880, 881), "as much as the one before, and a little"
    found = moments(pace.line, 20, lambda: 8000)
    assert most_in_a_window([(at, 880) for at, _ in found], 60) <= 10_000
    assert found[-1][0] - found[0][0] < 2 * 60, "not a minute for each"


def test_a_request_that_costs_more_than_expected_counts(course: MakeCourse) -> None:
    pace = course(Limits(tokens=10_000)).pace()
    pace.turn(8000, 1).used(80)
    pace.turn(8000, 1).used(7000)
    with pytest.raises(RateRefused) as caught:
        pace.turn(8000, 1)
    assert 20 < caught.value.retry_after_s < 65


def test_a_turn_that_was_not_used_is_given_back(course: MakeCourse) -> None:
    pace = course(Limits(requests=1, tokens=1000)).pace()
    turn = pace.turn(1000, 0)
    with pytest.raises(RateRefused, match="limits") as caught:
        pace.turn(1000, 1)
    assert 55 < caught.value.retry_after_s < 65
    turn.unused()
    turn.unused()
    pace.turn(1000, 1)
    with pytest.raises(RateRefused):
        pace.turn(1, 1)


def test_processes_keep_to_requests_a_minute(course: MakeCourse) -> None:
    provider = FakeProvider(5, 8, rpm=60, minute_s=SHORT.window_s)
    with serving(provider.app()) as url:
        ask_together(course(Limits(requests=60), SHORT, provider=url), 4, 6, ["tea"])
    assert provider.stats["rejected"] == 0
    assert provider.stats["requests"] >= 0.6 * 120


def test_processes_keep_to_tokens_a_minute(course: MakeCourse) -> None:
    provider = FakeProvider(5, 8, tpm=6000, minute_s=SHORT.window_s)
    texts = ["tea " * n for n in (50, 400, 10, 200, 100, 3)]
    with serving(provider.app()) as url:
        ask_together(course(Limits(tokens=6000), SHORT, provider=url), 3, 6, texts)
    assert provider.stats["rejected"] == 0
    assert provider.stats["tokens"] >= 0.4 * 12000


def test_processes_keep_to_requests_at_once(course: MakeCourse) -> None:
    provider = FakeProvider(20, 8, at_once=2)
    with serving(provider.app()) as url:
        ask_together(course(Limits(places=2), provider=url), 4, 2, ["tea"])
    assert provider.stats["rejected"] == 0
    assert provider.stats["at_once"] == 2
    assert provider.stats["requests"] > 20


def test_the_place_of_a_killed_process_is_given_to_another(course: MakeCourse) -> None:
    here = course(Limits(places=1), life_s=4.0)
    die_in_a_place(here)
    with pytest.raises(RateRefused):
        here.pace().turn(1, 0.1)
    begun = monotonic()
    here.pace().turn(1, 60)
    assert monotonic() - begun < 10


def test_places_are_given_in_order(course: MakeCourse) -> None:
    pace = course(Limits(places=1)).pace()
    held = pace.turn(1, 1)
    came: list[int] = []

    def stand(number: int) -> None:
        turn = pace.turn(1, 30)
        came.append(number)
        turn.used(None)

    with ThreadPoolExecutor(4) as pool:
        line = pace.line
        for number in range(4):
            pool.submit(stand, number)
            eventually(lambda: int(line._client.zcard(line._keys[1])) == number + 2)  # noqa: B023
        begun = monotonic()
        held.used(None)
    assert came == [0, 1, 2, 3]
    assert monotonic() - begun < 2, "who leaves calls the next, nobody waits for an end of time"


def test_a_pause_is_for_all_and_moves_who_waits(course: MakeCourse) -> None:
    here = course(Limits(requests=120))
    one, other = here.pace(), here.pace()
    turn = one.turn(1, 0)
    with ThreadPoolExecutor(1) as pool:
        key = other.line._keys[0]
        first = other.line._client.hget(key, "free")
        waiting = pool.submit(lambda: (other.turn(1, 30), monotonic())[1])
        eventually(lambda: other.line._client.hget(key, "free") != first)
        said = monotonic()
        turn.refused(2.0)
        with pytest.raises(RateRefused) as caught:
            here.pace().turn(1, 0.5)
        assert caught.value.retry_after_s > 1.0
        assert waiting.result(30) >= said + 2.0


def test_a_pause_is_for_all_where_no_limit_is_set(course: MakeCourse) -> None:
    here = course(Limits())
    here.pace().turn(1, 0).refused(5)
    with pytest.raises(RateRefused) as caught:
        here.pace().turn(1, 1)
    assert 3 < caught.value.retry_after_s <= 5


def test_refusals_lower_the_pace_once_and_answers_raise_it(course: MakeCourse) -> None:
    rules = Rules(window_s=1.0, used=1.0, cut=0.5, rise=0.5)
    pace = course(Limits(requests=20), rules).pace()
    turns = [pace.turn(1, 10) for _ in range(3)]
    for turn in turns:
        turn.refused(0.5)
    with pytest.raises(RateRefused) as caught:
        pace.turn(1, 0)
    assert caught.value.retry_after_s < 0.5 + 0.2, "the pause that was asked for, and the distance"
    assert apart(pace) == pytest.approx(0.1, abs=0.001)
    slow = pace.turn(1, 10)
    slow.used(None)
    assert 0.05 < apart(pace) < 0.1

    def answered() -> bool:
        pace.turn(1, 10).used(None)
        return apart(pace) == pytest.approx(0.05, abs=0.001)

    eventually(answered)


def apart(pace: SharedPace) -> float:
    """The time between two requests."""
    (first, _), (second, _) = moments(pace.line, 2)
    return second - first


def test_who_is_refused_again_waits_longer(course: MakeCourse) -> None:
    pace = course(Limits(requests=100), Rules(window_s=1.0)).pace()
    paused = []
    for _ in range(3):
        pace.turn(1, 10).refused(0.1)
        with pytest.raises(RateRefused) as caught:
            pace.turn(1, 0)
        paused.append(caught.value.retry_after_s)
    assert paused[0] < paused[1] < paused[2]
    assert apart(pace) == pytest.approx(1 / 0.98 / 70, abs=0.001)


def test_where_no_limit_is_set_one_is_found_and_dropped(course: MakeCourse) -> None:
    rules = Rules(window_s=20.0, used=1.0, cut=0.5, least_guess=2, guess_rise=30.0)
    here = course(Limits(), rules)
    one, other = here.pace(), here.pace()
    line = one.line

    def sent() -> int:
        one.turn(1, 0).used(None)
        return sum(map(int, line._client.hvals(line._keys[3])))

    eventually(lambda: sent() > 10)
    before = sent()
    other.turn(1, 0).refused(0.1)
    guessed = float(line._client.hget(line._keys[0], "guess") or 0)
    assert 6 * before <= guessed <= 6 * before + 6, "what the processes told, and the one that was refused"
    assert apart(other) == pytest.approx(20 / (guessed / 2), rel=0.01)

    def dropped() -> bool:
        other.turn(1, 30).used(None)
        return not line._client.hexists(line._keys[0], "guess")

    eventually(dropped, 60)
    assert apart(one) < 0.1


@pytest.fixture
def own_redis(server_folder: Path) -> Iterator["Switched"]:
    server = Redis(server_folder / uuid4().hex, free_port(), "test")
    server.prepare()
    switched = Switched(server)
    switched.start()
    yield switched
    switched.stop()


class Switched:
    """A Redis that is killed and started again."""

    def __init__(self, server: Redis) -> None:
        self.server = server
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.process = spawn(self.server.command(), self.server.folder / "log")
        self.server.wait(self.process)

    def stop(self) -> None:
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGKILL)
        assert self.process is not None
        self.process.wait(30)

    def signal(self, number: int) -> None:
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(number)


def test_without_redis_the_pace_is_kept_and_redis_is_found_again(own_redis: Switched) -> None:
    here = Course(own_redis.server.uri(), "", "line", Limits(requests=80), Rules(window_s=1.0))
    pace = here.pace()
    with capture_logs() as logs:
        pace.turn(1, 10).used(None)
        own_redis.stop()
        begun = monotonic()
        sent = [pace.turn(1, 10) for _ in range(5)]
        took = monotonic() - begun
        assert took >= 4 / 10, "an eighth of the limit"
        assert took < 5
        sent[-1].refused(4.0)
        with pytest.raises(RateRefused):
            pace.turn(1, 0)
        own_redis.start()
        other = here.pace()

        def others_know() -> bool:
            for one in (pace, other):
                try:
                    one.turn(1, 0).used(None)
                except RateRefused:
                    if one is other:
                        return True
            return False

        eventually(others_know, 5)
        sleep(0.01)
        pace.turn(1, 30).used(None)
    assert [line["event"] for line in logs] == ["pace.alone", "pace.shared"]


def test_a_redis_that_hangs_holds_up_one_call_a_second(own_redis: Switched) -> None:
    pace = Course(own_redis.server.uri(), "", "line", Limits(requests=100_000)).pace()
    pace.turn(1, 10).used(None)
    own_redis.signal(signal.SIGSTOP)
    slow, until = 0, monotonic() + 4
    calls = 0
    while monotonic() < until:
        begun = monotonic()
        pace.turn(1, 10).used(None)
        slow += monotonic() - begun > 0.5
        calls += 1
    assert slow <= 3, "a second of waiting, a second of peace"
    assert calls > 50
    own_redis.signal(signal.SIGCONT)


def test_without_any_redis_a_part_of_the_limits_is_kept() -> None:
    nowhere = {"broker_url": "amqp://guest:guest@127.0.0.1:1//", "embedder": "openai"}
    with capture_logs() as logs:
        pace = make_pace(load_settings(provider_rpm=480, provider_share=8, provider_concurrency=8, **nowhere))
        held = pace.turn(1, 0)
        with pytest.raises(RateRefused, match="at once"):
            pace.turn(1, 0.05)
        held.used(None)
        with pytest.raises(RateRefused) as caught:
            pace.turn(1, 0)
        assert 0.5 < caught.value.retry_after_s < 1.1
        pace.turn(1, 10).refused(30)
        with pytest.raises(RateRefused) as caught:
            pace.turn(1, 10)
        assert caught.value.retry_after_s > 20
    assert [line["event"] for line in logs] == ["pace.alone"]
    free = make_pace(load_settings(**nowhere))
    assert isinstance(free, AlonePace)
    for _ in range(100):
        free.turn(1_000_000, 0).used(None)


def test_two_models_have_two_lines(redis_server: Redis) -> None:
    def pace(**more: object) -> SharedPace:
        made = make_pace(load_settings(embedder="openai", redis_url=redis_server.uri(3), provider_rpm=1, **more))
        assert isinstance(made, SharedPace)
        return made

    names = [uuid4().hex for _ in range(2)]
    for name in names:
        pace(openai_model=name).turn(1, 0)
    with pytest.raises(RateRefused):
        pace(openai_model=names[0]).turn(1, 0)
    pace(openai_model=names[0], openai_base_url="http://elsewhere/v1").turn(1, 0)


def test_a_model_on_this_machine_needs_no_line(redis_server: Redis) -> None:
    assert isinstance(make_pace(load_settings(embedder="minilm", redis_url=redis_server.uri(3))), AlonePace)
    limited = make_pace(load_settings(embedder="hash", redis_url=redis_server.uri(3), provider_rpm=5))
    assert isinstance(limited, SharedPace)


def test_a_turn_costs_little(course: MakeCourse) -> None:
    line = course(Limits()).pace().line
    answer = line.turn("somebody", 1, 0, 0)
    assert answer.outcome is Outcome.TURN
    assert not answer.tell
    written = [key for key in line._keys if line._client.exists(key)]
    assert written in ([], [line._keys[3]]), "without limits there is nothing to keep but a count"


def test_the_benchmark_counts_what_the_provider_saw() -> None:
    found = limits_rate.measure(3, lambda _: None)
    assert 3 <= found.sent <= 4
    assert found.refused == 0
    assert "answered 429" in limits_rate.report(found)
