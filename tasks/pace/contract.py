"""What every pace keeps to, and what it is made of: the provider's limits, and the rules of coming close to them."""

from dataclasses import dataclass
from typing import Protocol

from memlane.errors import RateRefused


class Turn(Protocol):
    """The right to send one request; end it by exactly one of these, a second one does nothing."""

    def used(self, tokens: int | None) -> None:
        """The request was sent, and the provider did not say that it has had enough.

        Args:
            tokens: what the provider counted, 0 if it failed and cost nothing; None if that is not known, and the bound
                counts.
        """

    def refused(self, retry_after_s: float) -> None:
        """The provider has had enough (429, or 503 with Retry-After): nobody asks before that time, and then fewer."""

    def unused(self) -> None:
        """The request was not sent after all; the turn is given back."""


class Pace(Protocol):
    """Decides when the provider may be asked; safe in several threads."""

    def turn(self, tokens: int, patience_s: float) -> Turn:
        """Wait until one request may be sent.

        Args:
            tokens: the most that the request may cost.
            patience_s: how long the caller is ready to wait.

        Raises:
            RateRefused: it would take longer; nothing was taken, and the error says when it would be our turn.
        """


@dataclass(frozen=True, slots=True)
class Limits:
    """What a provider lets through; None where no limit is known.

    Attributes:
        requests: in a window of time.
        tokens: in a window of time.
        places: requests under way at once.
    """

    requests: float | None = None
    tokens: float | None = None
    places: int | None = None

    def divided(self, among: int) -> "Limits":
        """What one of so many processes may use without asking the others; one request at once is the least."""
        return Limits(
            self.requests and self.requests / among,
            self.tokens and self.tokens / among,
            self.places and max(1, self.places // among),
        )


@dataclass(frozen=True, slots=True)
class Rules:
    """How closely limits are approached, and how they are found where the provider refuses (AIMD, Chiu and Jain, 1989).

    Attributes:
        window_s: the time that the limits are about; providers count in sliding windows.
        used: of a limit. Requests that travel for differently long may come closer to each other than they were sent.
        cut: what a refusal leaves of the share of the limits that is used.
        rise: what a window with answers adds to that share.
        least: of the share.
        least_guess: of the guess where no limit is set, which else is what was sent lately, in requests a window.
        guess_rise: what a window with answers adds to the share of a guess, as a part of that share.
        enough: the share of a guess at which it is dropped.
    """

    window_s: float = 60.0
    used: float = 0.98
    cut: float = 0.7
    rise: float = 0.1
    least: float = 0.05
    least_guess: int = 300
    guess_rise: float = 0.5
    enough: float = 2.0


USUAL = Rules()
"""What is followed outside of tests."""


def too_long(wait_s: float) -> RateRefused:
    """What is raised where a turn would come later than the caller is ready to wait."""
    return RateRefused("the provider's limits are used up", max(0.1, wait_s))
