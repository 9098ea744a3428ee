"""When a call is sent again: the same ids make that harmless, and the pauses keep it polite."""

import random
from collections.abc import Iterator
from dataclasses import dataclass

from memlane.errors import RateLimited, Unavailable

_FIRST_S = 0.1
_LONGEST_S = 5.0

_LONGEST_LIMITED_S = 60.0
"""As long as a rate is counted over: nothing that is refused for a rate has to wait for longer."""


@dataclass(frozen=True, slots=True)
class Retries:
    """How often a call is repeated that met a broken connection, a 503 or a 429."""

    times: int

    def pauses(self) -> Iterator[float]:
        """Seconds to wait before each repetition: doubling, up to 5, with jitter so that clients part."""
        for attempt in range(self.times):
            longest = min(_LONGEST_S, _FIRST_S * 2**attempt)
            yield longest * random.uniform(0.5, 1.0)  # noqa: S311  # jitter, not a secret


def pause_s(planned: float, error: Unavailable) -> float:
    """The longer of what we planned and what the server asked for, up to 5 seconds.

    Over a rate or a cap it is both, up to a minute: coming back sooner is for nothing, and all at once as well.
    """
    if isinstance(error, RateLimited):
        return planned + min(error.retry_after_s, _LONGEST_LIMITED_S)
    return max(planned, min(error.retry_after_s, _LONGEST_S)) if error.retry_after_s > 1 else planned
