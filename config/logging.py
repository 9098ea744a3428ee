"""Structured logs: what happened to which job, shard and tenant, and never a memory's text.

Text could slip in through an exception's message, since a driver quotes the row that it chokes on;
that is cut here, once. (Celery prints the body of messages that it cannot read; workers/consumer.py
sees to that.)
"""

import logging
import sys
import traceback
from types import TracebackType

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from memlane.config.settings import Profile, Settings
from memlane.errors import MemlaneError

_QUIET = (
    "celery.app.trace",  # that a drain has ended; the drain says more
    "celery.beat",
    "celery.worker.strategy",
    "httpcore",
    "httpx",
    "openai",
    "tornado.access",
    "oauthlib",
    "requests_oauthlib",
    "urllib3",  # the paths of webhooks, which are secrets
    "uvicorn.access",
)
"""Loggers whose everyday lines say nothing that ours do not."""

_SILENT = (
    "apprise",  # it names channels, whose addresses are secrets; beat says what is wrong
    "datadog",  # it names the agent's address, again and again
    "opentelemetry",  # it names the collector's; the hook says once what is wrong
    "psycopg.pool",  # it names hosts and users; storage says what is wrong
)
"""Loggers that say what must not be in a log."""

ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None]


def configure_logging(settings: Settings) -> None:
    """Send every log line of this process to standard error, as JSON in production."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _without_messages,
    ]
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, _renderer(settings)],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    for name in _SILENT:
        logging.getLogger(name).setLevel(logging.CRITICAL)


def _renderer(settings: Settings) -> Processor:
    if settings.profile is Profile.PRODUCTION:
        return structlog.processors.JSONRenderer()
    return structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())


def _without_messages(_logger: WrappedLogger, _name: str, event: EventDict) -> EventDict:
    """Replace exc_info by a stack whose foreign exceptions show their type, not their message."""
    info = event.pop("exc_info", None)
    if info is True:
        info = sys.exc_info()
    if isinstance(info, BaseException):
        info = (type(info), info, info.__traceback__)
    if isinstance(info, tuple) and info[1] is not None:
        event["exception"] = describe(info)
    return event


def describe(info: ExcInfo) -> str:
    """A stack trace without what an exception may quote; our own messages name no content."""
    kind, error, stack = info
    lines = traceback.format_tb(stack)
    message = f": {error}" if isinstance(error, MemlaneError) else ""
    return "".join([*lines, f"{kind.__module__}.{kind.__qualname__}{message}"])
