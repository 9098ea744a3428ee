"""The pace that all processes keep together, through a line in Redis; while Redis is away, each keeps its own."""

from collections.abc import Callable
from threading import Lock
from time import monotonic, sleep
from uuid import uuid4

import redis
import structlog

from memlane.storage.failures import reason_of
from memlane.tasks.pace.alone import AlonePace
from memlane.tasks.pace.contract import Turn, too_long
from memlane.tasks.pace.line import Answer, Line, Outcome

log = structlog.get_logger(__name__)

_AWAY_S = 1.0
"""How long a Redis that did not answer is left alone."""


class SharedPace:
    """Asks the line in Redis; what it does not know when Redis goes away, the pace of this process has noted."""

    def __init__(self, line: Line, alone: AlonePace) -> None:
        self.line, self.alone = line, alone
        self._away_until: float | None = None
        self._lock = Lock()

    def turn(self, tokens: int, patience_s: float) -> Turn:
        """Wait until one request may be sent."""
        until = monotonic() + patience_s
        if self.reachable():
            turn = SharedTurn(self, tokens)
            try:
                turn.wait(until)
            except redis.RedisError as error:
                self.lost(error)
            else:
                return turn
        return self.alone.turn(tokens, until - monotonic())

    def reachable(self) -> bool:
        """Whether Redis is worth asking; after it was lost, one thread tries it from time to time."""
        with self._lock:
            if self._away_until is None:
                return True
            if monotonic() < self._away_until:
                return False
            self._away_until = monotonic() + _AWAY_S
            return True

    def untold_s(self) -> float:
        """What is left of a pause that the others may not know of, because Redis was away.

        Otherwise Redis knows best: a pause that was told twice would grow by the time on the way.
        """
        return self.alone.paused_s() if self._away_until is not None else 0.0

    def lost(self, error: redis.RedisError) -> None:
        """Say once that Redis does not answer, until it does again."""
        with self._lock:
            new, self._away_until = self._away_until is None, monotonic() + _AWAY_S
        if new:
            log.warning("pace.alone", why=reason_of(error) or type(error).__name__)

    def found(self) -> None:
        """Redis has answered."""
        if self._away_until is not None:
            with self._lock:
                back, self._away_until = self._away_until is not None, None
            if back:
                log.info("pace.shared")


class SharedTurn:
    """A turn in the line."""

    def __init__(self, pace: SharedPace, tokens: int) -> None:
        self._pace, self._line = pace, pace.line
        self._tokens = tokens
        self._id = uuid4().hex
        self._answer: Answer | None = None

    def wait(self, until: float) -> None:
        """Stand in line for a place, then wait for the moment that was given to us.

        Raises:
            RateRefused: it is later than `until`, by this process's clock.
            RedisError: Redis does not answer; a place that we hold there is given to another in the end.
        """
        while True:
            left = until - monotonic()
            answer = self._line.turn(self._id, self._tokens, left, self._pace.untold_s())
            self._pace.found()
            self._pace.alone.pause(answer.pause_s)
            if answer.outcome is Outcome.TURN:
                break
            if answer.outcome is Outcome.TOO_LONG:
                raise too_long(answer.wait_s)
            self._line.listen(self._id, left)
        self._answer = answer
        self._sleep(answer, until)
        self._pace.alone.note(self._tokens)

    def _sleep(self, answer: Answer, until: float) -> None:
        """A pause that came meanwhile moves our turn; we look after each sleep."""
        wait_s = answer.wait_s
        while wait_s > 0:
            sleep(wait_s)
            wait_s, pause_s = self._line.look(self._id, answer.at)
            self._pace.alone.pause(pause_s)
            if wait_s > max(0.0, until - monotonic()) and pause_s > 0:
                self.unused()
                raise too_long(wait_s)

    def used(self, tokens: int | None) -> None:
        """The request was answered; the line is told if that changes anything."""
        limits, cost = self._line.limits, self._tokens if tokens is None else tokens
        if self._answer and (limits.places or limits.tokens or self._answer.tell):
            self._end(lambda turn: self._line.answered(self._id, turn, self._tokens, cost))
        self._answer = None

    def unused(self) -> None:
        """The request was not sent after all."""
        self._end(lambda turn: self._line.unused(self._id, turn))

    def refused(self, retry_after_s: float) -> None:
        """The provider said when to come again: that holds for this process, whether the others hear of it or not."""
        if self._answer:
            self._pace.alone.pause(retry_after_s)
        self._end(lambda turn: self._line.refused(self._id, turn, retry_after_s))

    def _end(self, tell: Callable[[Answer], None]) -> None:
        """Tell the line, unless the turn has ended before."""
        turn, self._answer = self._answer, None
        if turn is None or not self._pace.reachable():
            return
        try:
            tell(turn)
        except redis.RedisError as error:
            self._pace.lost(error)
        else:
            self._pace.found()
