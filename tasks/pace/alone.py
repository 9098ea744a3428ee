"""The pace of one process that can ask nobody: its own part of the limits, and the pauses that it knows of."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import BoundedSemaphore, Lock
from time import monotonic, sleep

from memlane.errors import RateRefused
from memlane.tasks.pace.contract import USUAL, Limits, Rules, Turn, too_long


class AlonePace:
    """Turns spaced as in line.lua, on a clock that stands still during pauses; it does not look for better limits."""

    def __init__(self, limits: Limits, rules: Rules = USUAL) -> None:
        span_s = rules.window_s / rules.used
        self._per_request_s = span_s / limits.requests if limits.requests else 0.0
        self._per_token_s = span_s / limits.tokens if limits.tokens else 0.0
        self._places = BoundedSemaphore(limits.places) if limits.places else None
        self._lock = Lock()
        self._free = self._whole = 0.0
        self._pushed_s = self._pause_ends = 0.0

    def turn(self, tokens: int, patience_s: float) -> Turn:
        """Wait until one request may be sent."""
        until = monotonic() + patience_s
        if self._places is not None and not self._places.acquire(timeout=max(0.0, patience_s)):
            raise RateRefused("as many requests as the provider takes at once are under way")
        with self._given_back():
            at = self._reserve(tokens, until)
            while (wait_s := at + self._pushed_s - monotonic()) > 0:
                if monotonic() + wait_s > until and self.paused_s():
                    self.give_back(at, tokens)
                    raise too_long(wait_s)
                sleep(wait_s)
        return AloneTurn(self, at, tokens)

    def _reserve(self, tokens: int, until: float) -> float:
        """Take the next moment that is free, on the clock without pauses."""
        with self._lock:
            now = monotonic()
            at = max(now, self._pause_ends) - self._pushed_s
            at = max(at, self._free if self._per_request_s else at, self._whole if self._per_token_s else at)
            if (wait_s := at + self._pushed_s - now) > max(0.0, until - now):
                raise too_long(wait_s)
            self._free, self._whole = at + self._per_request_s, at + tokens * self._per_token_s
            return at

    @contextmanager
    def _given_back(self) -> Iterator[None]:
        """Who got no turn needs no place."""
        try:
            yield
        except BaseException:
            self.leave()
            raise

    def note(self, tokens: int) -> None:
        """A request is sent that others have agreed to: should they fall silent, we go on from there."""
        with self._lock:
            now = monotonic() - self._pushed_s
            self._free = max(self._free, now + self._per_request_s)
            self._whole = max(self._whole, now + tokens * self._per_token_s)

    def pause(self, for_s: float) -> None:
        """Nobody asks for so long; all turns move by that."""
        with self._lock:
            now = monotonic()
            if for_s > 0 and now + for_s > self._pause_ends:
                self._pushed_s += now + for_s - max(now, self._pause_ends)
                self._pause_ends = now + for_s

    def paused_s(self) -> float:
        """What is left of a pause."""
        return max(0.0, self._pause_ends - monotonic())

    def give_back(self, at: float, tokens: int) -> None:
        """Tokens that were not needed; and the moment, if they are all, and nobody has come after it."""
        with self._lock:
            self._whole -= tokens * self._per_token_s
            if self._free == at + self._per_request_s:
                self._free = at

    def return_tokens(self, tokens: int) -> None:
        """Tokens that were not needed; fewer than 0 if it was more."""
        with self._lock:
            self._whole -= tokens * self._per_token_s

    def leave(self) -> None:
        """Give a place back."""
        if self._places is not None:
            self._places.release()


class AloneTurn:
    """A turn that nobody else knows of."""

    def __init__(self, pace: AlonePace, at: float, tokens: int) -> None:
        self._pace, self._at, self._tokens = pace, at, tokens
        self._open = True

    def used(self, tokens: int | None) -> None:
        """The request was answered."""
        if self._ended() and tokens is not None:
            self._pace.return_tokens(self._tokens - tokens)

    def refused(self, retry_after_s: float) -> None:
        """The provider said when to come again."""
        if self._ended():
            self._pace.pause(retry_after_s)

    def unused(self) -> None:
        """The request was not sent after all."""
        if self._ended():
            self._pace.give_back(self._at, self._tokens)

    def _ended(self) -> bool:
        """End it; whether it was open."""
        was_open, self._open = self._open, False
        if was_open:
            self._pace.leave()
        return was_open
