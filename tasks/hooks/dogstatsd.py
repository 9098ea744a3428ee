"""The hook for DogStatsD: a histogram of seconds and counts of operations, items and errors, sent to an agent."""

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from memlane.config.settings import Settings
from memlane.errors import Misconfigured
from memlane.tasks.hooks.naming import error_name
from memlane.tasks.hooks.spec import Operation, hookimpl

if TYPE_CHECKING:
    from datadog.dogstatsd.base import DogStatsd

_QUEUE = 1000
"""Packets that wait for an agent's socket; what comes then is dropped, and nobody waits."""

_FAREWELL_S = 1.5
"""How long what is left may take; less than a process waits."""


class Dogstatsd:
    """Sends figures from a thread of the library's own.

    Args:
        client: the library's.
        tenants: whether figures are told apart by tenant.
    """

    def __init__(self, client: "DogStatsd", *, tenants: bool) -> None:
        self._client = client
        self._tenants = tenants

    @hookimpl
    def after(self, operation: Operation, seconds: float) -> None:
        """It was done."""
        self._count(operation, seconds, [])

    @hookimpl
    def on_error(self, operation: Operation, seconds: float, error: BaseException) -> None:
        """It failed."""
        self._count(operation, seconds, [f"error:{error_name(error)}"])

    @hookimpl
    def close(self) -> None:
        """Send what is left."""
        self._client.stop(_FAREWELL_S)

    def _count(self, operation: Operation, seconds: float, more: list[str]) -> None:
        tags = [f"operation:{operation.name}"]
        if self._tenants and operation.tenant is not None:
            tags.append(f"tenant:{operation.tenant}")
        self._client.histogram("operation.seconds", seconds, tags)
        self._client.increment("operation.items", operation.items, tags)
        if more:
            self._client.increment("operation.errors", 1, [*tags, *more])


def make(settings: Settings) -> Dogstatsd | None:
    """Wanted where an agent's address is set.

    Raises:
        Misconfigured: it is, but its library is not installed.
    """
    if settings.statsd_url is None:
        return None
    try:
        from datadog.dogstatsd.base import DogStatsd
    except ImportError:
        raise Misconfigured("MEMLANE_STATSD_URL needs a package: pip install 'memlane[datadog]'") from None
    where = urlsplit(settings.statsd_url)
    client = DogStatsd(
        host=where.hostname or "",
        port=where.port or 8125,
        socket_path=where.path if where.scheme == "unix" else None,
        namespace="memlane",
        disable_telemetry=True,
        disable_buffering=False,
        disable_background_sender=False,
        sender_queue_size=_QUEUE,
        origin_detection_enabled=False,
    )
    return Dogstatsd(client, tenants=settings.observe_tenants)
