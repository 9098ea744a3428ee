"""Processes that ask a provider at a common pace, each with a line of its own to Redis."""

import os
import signal
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from time import monotonic

import httpx

from memlane.bench.provider import count_tokens
from memlane.errors import RateRefused
from memlane.tasks.pace.alone import AlonePace
from memlane.tasks.pace.contract import USUAL, Limits, Rules
from memlane.tasks.pace.line import Line
from memlane.tasks.pace.shared import SharedPace


@dataclass(frozen=True, slots=True)
class Course:
    """What the processes are told.

    Attributes:
        redis: its URL.
        provider: its URL with /v1; whoever has none asks nobody.
        name: of the line.
    """

    redis: str
    provider: str
    name: str
    limits: Limits
    rules: Rules = USUAL
    life_s: float = 35.0

    def pace(self) -> SharedPace:
        line = Line(self.redis, self.name, self.limits, self.life_s, self.rules)
        return SharedPace(line, AlonePace(self.limits.divided(8), self.rules))


def ask_together(course: Course, processes: int, seconds: float, texts: Sequence[str]) -> None:
    """Ask the provider from so many processes, as often as the pace lets them."""
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        for one in [pool.submit(_ask, course, seconds, texts, number) for number in range(processes)]:
            one.result()


def _ask(course: Course, seconds: float, texts: Sequence[str], first: int) -> None:
    pace, until, sent = course.pace(), monotonic() + seconds, first
    with httpx.Client(timeout=30) as client:
        while (left := until - monotonic()) > 0:
            text = texts[sent % len(texts)]
            sent += 1
            try:
                turn = pace.turn(2 * count_tokens([text]), left)
            except RateRefused:
                return
            answer = client.post(f"{course.provider}/embeddings", json={"input": [text], "model": "m"})
            if answer.status_code == 429:
                turn.refused(float(answer.headers["Retry-After"]))
            else:
                turn.used(answer.json()["usage"]["total_tokens"])


def die_in_a_place(course: Course) -> None:
    """A process takes a turn, and is killed before its request has an answer."""
    process = get_context("spawn").Process(target=_die, args=(course,))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL


def _die(course: Course) -> None:
    course.pace().turn(1, 30)
    os.kill(os.getpid(), signal.SIGKILL)
