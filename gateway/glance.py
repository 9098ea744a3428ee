"""A glance: what many may ask at once, without a key too, is looked at once a second."""

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Generic, TypeVar

T = TypeVar("T")

_EVERY_S = 1.0


class Glance(Generic[T]):
    """The result of a look, shared by all who ask while it goes on and for a second after it began.

    Args:
        look: looks; it must not raise.
    """

    def __init__(self, look: Callable[[], Awaitable[T]]) -> None:
        self._look = look
        self._begun_at = float("-inf")
        self._looking: asyncio.Future[T] | None = None

    async def now(self) -> T:
        """What was seen just now."""
        over = self._looking is None or (self._looking.done() and monotonic() - self._begun_at >= _EVERY_S)
        if self._looking is None or over:
            self._begun_at = monotonic()
            self._looking = asyncio.ensure_future(self._look())
        return await asyncio.shield(self._looking)
