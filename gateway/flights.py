"""Flights: whoever asks for what is just being made waits for that. One who goes away does not stop it for others."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from functools import partial
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Flights(Generic[T]):
    """What is being made in this process now, by key."""

    def __init__(self) -> None:
        self._under_way: dict[Hashable, asyncio.Task[T]] = {}

    async def of(self, key: Hashable, make: Callable[[], Awaitable[T]]) -> T:
        """What is being made under a key, or is begun now; all who wait are given the same, or its error."""
        task = self._under_way.get(key)
        if task is None:
            task = asyncio.create_task(_made(make))
            self._under_way[key] = task
            task.add_done_callback(partial(self._over, key))
        return await asyncio.shield(task)

    def __len__(self) -> int:
        return len(self._under_way)

    def _over(self, key: Hashable, task: asyncio.Task[Any]) -> None:
        del self._under_way[key]
        if not task.cancelled():
            task.exception()  # all who waited may be gone


async def _made(make: Callable[[], Awaitable[T]]) -> T:
    return await make()
