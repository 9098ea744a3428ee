"""Refreshing: what /metrics shows is looked at in the background, so that whoever asks for it waits for no node."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from time import monotonic

import structlog

from memlane.errors import MemlaneError

log = structlog.get_logger(__name__)

_FIRST_S = 0.5
"""How long is waited at most for parts that were never looked at; what is missing then is there the next time."""

_REST = 4
"""A part rests for so many times as long as its look took: looking takes a fifth of the time at most."""


@dataclass(frozen=True, slots=True)
class Part:
    """Something that is looked at again and again, whatever the other parts wait for.

    Attributes:
        name: for the log.
        look: looks. While it raises what is ours, what it saw before stays.
        every_s: how often, in seconds.
    """

    name: str
    look: Callable[[], Awaitable[None]]
    every_s: float
    seen: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once it was looked at, whether it answered or not."""


class Refreshing:
    """Looks at all parts side by side; it begins with the first who asks, so that nobody looks for nobody."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self._parts = parts
        self._tasks: list[asyncio.Task[None]] = []

    async def begun(self) -> None:
        """Begin, unless it goes on; the first who ask wait for a moment, nobody else does."""
        if not self._tasks:
            self._tasks = [asyncio.create_task(_run(part)) for part in self._parts]
        if not all(part.seen.is_set() for part in self._parts):
            with suppress(TimeoutError):
                async with asyncio.timeout(_FIRST_S):
                    await asyncio.gather(*(part.seen.wait() for part in self._parts))

    async def close(self) -> None:
        """Look no more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def _run(part: Part) -> None:
    while True:
        begun = monotonic()
        try:
            await part.look()
        except MemlaneError as error:
            log.debug("refreshing.skipped", part=part.name, why=str(error))
        except Exception:  # it has to go on as long as the process
            log.exception("refreshing.failed", part=part.name)
        part.seen.set()
        await asyncio.sleep(max(part.every_s, _REST * (monotonic() - begun)))
