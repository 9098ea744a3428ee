"""When a call is sent again: the same ids make that harmless, and the pauses keep it polite."""

import random
from collections.abc import Iterator
from dataclasses import dataclass

from memlane.errors import Unavailable

_FIRST_S = 0.1
_LONGEST_S = 5.0


@dataclass(frozen=True, slots=True)
class Retries:
    """How often a call is repeated that met a broken connection or a 503."""

    times: int

    def pauses(self) -> Iterator[float]:
        """Seconds to wait before each repetition: doubling, up to 5, with jitter so that clients part."""
        for attempt in range(self.times):
            longest = min(_LONGEST_S, _FIRST_S * 2**attempt)
            yield longest * random.uniform(0.5, 1.0)  # noqa: S311  # jitter, not a secret


def pause_s(planned: float, error: Unavailable) -> float:
    """The longer of what we planned and what the server asked for, up to 5 seconds."""
    return max(planned, min(error.retry_after_s, _LONGEST_S)) if error.retry_after_s > 1 else planned
