"""The pace of requests to a provider."""

from typing import Protocol

from memlane.config.settings import Settings


class Turn(Protocol):
    """Leave to make one request."""

    def used(self, tokens: int | None) -> None:
        """It was answered."""

    def refused(self, retry_after_s: float) -> None:
        """The provider wants to be left alone."""

    def unused(self) -> None:
        """It was not made."""


class Pace(Protocol):
    """Whose turn it is."""

    def turn(self, tokens: int, patience_s: float) -> Turn:
        """Wait for a turn."""


class _Free:
    def used(self, tokens: int | None) -> None: ...
    def refused(self, retry_after_s: float) -> None: ...
    def unused(self) -> None: ...
    def turn(self, tokens: int, patience_s: float) -> Turn:
        return self


def make_pace(settings: Settings) -> Pace:
    """No limits."""
    return _Free()
