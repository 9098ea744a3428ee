"""The hook for Sentry: an error that is reported names the operation that it happened in; nothing is reported here."""

from contextvars import Token

from memlane.config.sentry import OPERATION, happened_in, sends_to_sentry
from memlane.config.settings import Settings
from memlane.tasks.hooks.spec import Operation, hookimpl


class Sentry:
    """Tells config/sentry.py which operation is under way; that sends the name as a tag of events."""

    def __init__(self) -> None:
        self._open: dict[Operation, Token[str | None]] = {}

    @hookimpl
    def before(self, operation: Operation) -> None:
        """It begins."""
        self._open[operation] = OPERATION.set(operation.name)

    @hookimpl
    def after(self, operation: Operation) -> None:
        """It was done."""
        OPERATION.reset(self._open.pop(operation))

    @hookimpl
    def on_error(self, operation: Operation, error: BaseException) -> None:
        """It failed. Whoever logs that does so now or later, perhaps outside of the operation."""
        happened_in(error, operation.name)
        OPERATION.reset(self._open.pop(operation))


def make(settings: Settings) -> Sentry | None:
    """Wanted where errors are reported at all."""
    return Sentry() if sends_to_sentry(settings) else None
