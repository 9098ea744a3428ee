"""The hook for Prometheus: seconds and errors of each operation, as series of this process."""

from typing import Protocol

from memlane.tasks.hooks.naming import error_name
from memlane.tasks.hooks.spec import Operation, hookimpl


class Measures(Protocol):
    """Keeps the series."""

    def operation(self, name: str, seconds: float, error: str | None) -> None:
        """An operation took so many seconds, and ended by this error if by any."""


class Prometheus:
    """Measures operations."""

    priority = 100  # it stands closest to the operation, so that other hooks' time is not measured

    def __init__(self, measures: Measures) -> None:
        self._measures = measures

    @hookimpl
    def after(self, operation: Operation, seconds: float) -> None:
        """It was done."""
        self._measures.operation(operation.name, seconds, None)

    @hookimpl
    def on_error(self, operation: Operation, seconds: float, error: BaseException) -> None:
        """It failed."""
        self._measures.operation(operation.name, seconds, error_name(error))
