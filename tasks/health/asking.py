"""Asking: several dependencies are asked side by side, none is waited for longer than a moment, and none twice at once.

Whoever hangs keeps the thread in which it was asked; until that has ended it is not asked again, so that threads never
pile up, and meanwhile it gives no answer.
"""

from collections.abc import Callable
from threading import Lock, Thread
from time import monotonic
from typing import Generic, TypeVar, cast

import structlog

log = structlog.get_logger(__name__)

T = TypeVar("T")

ANSWER_S = 1.5
"""How long each dependency is waited for; a whole look takes hardly longer, whatever hangs."""


class Asked(Generic[T]):
    """A question that is under way in a thread of its own.

    Args:
        name: of the thread.
        ask: asks; what it raises means that there is no answer.
    """

    def __init__(self, name: str, ask: Callable[[], T]) -> None:
        self._ask = ask
        self._answers: list[T] = []
        self._thread = Thread(target=self._run, name=f"look {name}", daemon=True)
        self._thread.start()

    @property
    def under_way(self) -> bool:
        """Whether it goes on."""
        return self._thread.is_alive()

    def wait(self, until: float) -> T | None:
        """The answer; None if there is none by then, on the monotonic clock."""
        self._thread.join(max(0.0, until - monotonic()))
        return self._answers[0] if self._answers else None

    def _run(self) -> None:
        try:
            self._answers.append(self._ask())
        except Exception as error:  # noqa: BLE001  # whatever a dependency does, it is no answer
            log.debug("health.no_answer", asked=self._thread.name, why=type(error).__name__)


class Asking:
    """Asks by name, and knows who still hangs. One for a process."""

    def __init__(self) -> None:
        self._under_way: dict[str, Asked[object]] = {}
        self._lock = Lock()

    def begin(self, name: str, ask: Callable[[], T]) -> Asked[T]:
        """Ask in the background; or wait with whoever has asked the same and is not answered yet."""
        with self._lock:
            before = self._under_way.get(name)
            if before is not None and before.under_way:
                return cast("Asked[T]", before)
            begun = Asked(name, ask)
            self._under_way[name] = cast("Asked[object]", begun)
            return begun
