"""The line before a provider, as it stands in Redis: line.lua, and what it answers."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from importlib.resources import files
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from memlane.tasks.pace.contract import USUAL, Limits, Rules
from memlane.tasks.pace.tally import Tally

_PREFIX = "memlane:pace"
_TIMEOUT_S = 1.0
CALL_S = 0.5
"""How long we listen for a call before we look whether somebody in line has died; shorter than the timeout."""


class Outcome(IntEnum):
    """What came of asking for a turn."""

    TURN = 1
    IN_LINE = 0
    """All places are taken; ours has been noted."""
    TOO_LONG = -1
    """Nothing was taken."""


@dataclass(frozen=True, slots=True)
class Answer:
    """To who asks for a turn.

    Attributes:
        outcome: whether there is one.
        wait_s: until the turn.
        at: the turn's moment on the line's clock, in microseconds.
        free: when the next one may be, unless another one has come meanwhile.
        kept: tokens that are kept for it; fewer than the bound where bounds turned out to be loose.
        pause_s: what is left of a pause.
        tell: whether the line wants to hear of an answer, because it is finding out the limits.
    """

    outcome: Outcome
    wait_s: float
    at: int
    free: int
    kept: int
    pause_s: float
    tell: bool


class Line:
    """One round trip per question; raises what the Redis client raises."""

    def __init__(self, url: str, name: str, limits: Limits, life_s: float, rules: Rules = USUAL) -> None:
        # A connection that Redis has closed meanwhile is opened anew once; nobody waits for a timeout twice.
        again = Retry(NoBackoff(), 1, (redis.ConnectionError,))
        self._client = redis.Redis.from_url(
            url, socket_timeout=_TIMEOUT_S, socket_connect_timeout=_TIMEOUT_S, retry=again
        )
        self._run: Callable[..., Any] = self._client.register_script(
            (files("memlane.tasks.pace") / "line.lua").read_text()
        )
        self._key = f"{_PREFIX}:{{{name}}}"
        self._keys = [self._key, *(f"{self._key}:{part}" for part in ("line", "held", "requests", "tokens"))]
        self.limits = limits
        self._tally = Tally()
        self._always = (
            *(limits.requests or 0, limits.tokens or 0, limits.places or 0),
            *(_us(rules.window_s), rules.used, _us(life_s), rules.cut, rules.least, rules.rise),
            *(rules.least_guess, rules.guess_rise, rules.enough),
        )

    def turn(self, who: str, tokens: int, patience_s: float, pause_s: float) -> Answer:
        """Ask for a turn, and let all know of a pause."""
        asked = (tokens, _us(patience_s), _us(pause_s), self._tally.due())
        outcome, wait, at, free, kept, pause, tell = self._ask("turn", who, *asked)
        if outcome == Outcome.TURN and not self.limits.requests:
            self._tally.add()
        return Answer(Outcome(outcome), wait / 1e6, at, free, kept, pause / 1e6, bool(tell))

    def listen(self, who: str, for_s: float) -> None:
        """Wait until somebody leaves a place to us, or for so long."""
        self._client.blpop([f"{self._key}:call:{who}"], max(0.01, min(for_s, CALL_S)))

    def look(self, who: str, at: int) -> tuple[float, float]:
        """How long it still is until a turn, and what is left of a pause, in seconds."""
        wait, pause = self._ask("look", who, at)
        return wait / 1e6, pause / 1e6

    def answered(self, who: str, turn: Answer, bound: int, cost: int) -> None:
        """End a turn whose request was answered, and cost so many tokens; 0 if it failed."""
        self._ask("over", who, turn.at, bound, turn.kept, cost, int(cost > 0), 0)

    def unused(self, who: str, turn: Answer) -> None:
        """End a turn for which nothing was sent."""
        self._ask("over", who, turn.at, 0, turn.kept, 0, 0, turn.free)

    def refused(self, who: str, turn: Answer, retry_after_s: float) -> None:
        """End a turn whose request the provider refused."""
        self._ask("refused", who, turn.at, _us(retry_after_s), self._tally.take())

    def _ask(self, what: str, who: str, *arguments: int) -> Any:
        return self._run(keys=self._keys, args=[what, who, *self._always, *arguments])


def _us(seconds: float) -> int:
    return int(seconds * 1_000_000)
