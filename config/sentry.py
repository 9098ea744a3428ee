"""Sentry: errors and check-ins of duties are sent there, and never what a memory says.

What is sent is chosen, not cleaned: an event is built anew from the keys named here. Of an exception
that is its type, the places in the code that it passed, and its message only where our own server
wrote it. The SDK's integrations stay out, since they collect arguments, requests and logged values.
Without a DSN the SDK is not even imported.
"""

import logging
import platform
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import PurePath
from time import monotonic
from typing import TYPE_CHECKING, Any, Literal
from uuid import uuid4

import structlog

from memlane import __version__, errors
from memlane.config.logging import ExcInfo
from memlane.config.settings import Settings

if TYPE_CHECKING:
    from sentry_sdk.transport import HttpTransport
    from sentry_sdk.types import Event, Hint

log = structlog.get_logger(__name__)

_EVENT = ("event_id", "timestamp", "level", "logger", "platform", "release", "environment", "sdk", "message")
_CHECK_IN = (
    *("type", "event_id", "timestamp", "release", "environment"),
    *("check_in_id", "monitor_slug", "monitor_config", "status", "duration"),
)
_FRAME = ("function", "module", "lineno", "in_app")
_TAGS = ("kind", "shard", "jobs", "sessions", "node", "period", "percent", "component")
"""Fields of our log lines that are sent; a task's name is not among them, since a producer's message gives it."""

OPERATION: ContextVar[str | None] = ContextVar("memlane_operation", default=None)
"""The name of the operation that is under way, which an event bears as its tag `operation`."""

_NOTED = "_memlane_operation"
"""The attribute of an error that says in which operation it happened."""

_OURS = (errors.Unavailable, errors.Misconfigured, errors.ServerError)
"""Errors whose message the server writes by itself; what callers did wrong may be told in their own words."""

SentryLevel = Literal["fatal", "error", "warning", "info"]
"""How bad something is, in Sentry's words."""

_FLUSH_S = 2.0
"""How long a process that ends waits for what was not sent yet."""


def configure_sentry(settings: Settings) -> None:
    """Send this process's errors to Sentry from now on; call it after `configure_logging`.

    A DSN that is none costs a line in the log and nothing else.
    """
    if not sends_to_sentry(settings):
        return
    import sentry_sdk
    from sentry_sdk.integrations.atexit import AtexitIntegration
    from sentry_sdk.integrations.excepthook import ExcepthookIntegration
    from sentry_sdk.utils import BadDsn

    assert settings.sentry_dsn is not None
    try:
        sentry_sdk.init(
            dsn=settings.sentry_dsn.get_secret_value(),
            release=f"memlane@{__version__}",
            environment=settings.sentry_environment or settings.profile.value,
            transport=_transport(),
            before_send=chosen,
            before_breadcrumb=no_breadcrumb,
            max_breadcrumbs=0,
            default_integrations=False,
            auto_enabling_integrations=False,
            integrations=[AtexitIntegration(callback=_say_nothing), ExcepthookIntegration()],
            # PII is off by default; saying so is deprecated.
            include_local_variables=False,
            include_source_context=False,
            max_request_body_size="never",
            auto_session_tracking=False,
            send_client_reports=False,
            server_name="",
            spotlight=False,
            debug=False,
            shutdown_timeout=_FLUSH_S,
        )
    except BadDsn:
        log.warning("sentry.off", why="the DSN of Sentry is not one: see SENTRY_DSN or MEMLANE_SENTRY_DSN")
        return
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)  # the transport says once what is wrong
    root = logging.getLogger()
    root.handlers[:] = [handler for handler in root.handlers if not isinstance(handler, _Reporter)]
    root.addHandler(_Reporter(logging.ERROR))


def configure_sentry_after_fork(settings: Settings) -> None:
    """Connections and threads do not survive a fork; where the DSN was no good, that has been said."""
    if sends_to_sentry(settings):
        import sentry_sdk

        if sentry_sdk.is_initialized():
            configure_sentry(settings)


def flush_sentry(settings: Settings) -> None:
    """Wait briefly for what was not sent yet: a pool child ends without Python's own farewell."""
    if sends_to_sentry(settings):
        import sentry_sdk

        sentry_sdk.flush(_FLUSH_S)


def report(settings: Settings, event: str, tags: Mapping[str, str], level: SentryLevel = "warning") -> None:
    """Tell Sentry of something that is no error, but that somebody should know.

    Args:
        settings: this process's.
        event: its fixed name.
        tags: of those that may be sent.
        level: how bad it is, in Sentry's words.
    """
    if sends_to_sentry(settings):
        import sentry_sdk

        sentry_sdk.capture_event({"level": level, "logger": __name__, "message": event, "tags": dict(tags)})


@contextmanager
def checked_in(settings: Settings, duty: str, every_s: int, longest_s: int) -> Iterator[None]:
    """Tell Sentry that a duty begins and how it ends; its server finds out which run was missed.

    Sentry's schedules are in whole minutes; a duty of other times sends no check-in.

    Args:
        settings: this process's.
        duty: its name.
        every_s: how often it is due.
        longest_s: how long it may take.
    """
    if not sends_to_sentry(settings) or every_s % 60:
        yield
        return
    from sentry_sdk.crons import capture_checkin
    from sentry_sdk.types import MonitorConfig

    minutes = every_s // 60
    config: MonitorConfig = {
        "schedule": {"type": "interval", "value": minutes, "unit": "minute"},
        "checkin_margin": max(1, minutes // 2),  # a wake-up may wait in its queue
        "max_runtime": max(1, longest_s // 60),
        "timezone": "UTC",
    }
    slug, id_, begun = f"memlane-{duty}", uuid4().hex, monotonic()
    capture_checkin(slug, id_, "in_progress", monitor_config=config)
    try:
        yield
    except BaseException:
        capture_checkin(slug, id_, "error", monotonic() - begun, config)
        raise
    capture_checkin(slug, id_, "ok", monotonic() - begun, config)


def happened_in(error: BaseException, operation: str) -> None:
    """Note in which operation an error happened, for the event that may come of it; the innermost one counts."""
    if not hasattr(error, _NOTED):
        setattr(error, _NOTED, operation)


def chosen(event: "Event", _hint: "Hint") -> "Event":
    """An event or check-in with what may be sent of it, and nothing else."""
    given: Mapping[str, Any] = event
    made: dict[str, Any] = {}
    if given.get("type") == "check_in":
        made |= _only(given, _CHECK_IN)
        return made  # type: ignore[return-value]  # it has the shape of one
    made |= _only(given, _EVENT)
    made["tags"] = _only(given.get("tags") or {}, (*_TAGS, "operation"))
    made["contexts"] = {
        "runtime": {"name": platform.python_implementation(), "version": platform.python_version()},
        "os": {"name": platform.system(), "version": platform.release()},
    }
    if "exception" in given:
        made["exception"] = {"values": [_exception(value) for value in given["exception"]["values"]]}
    return made  # type: ignore[return-value]  # it has the shape of one


def no_breadcrumb(_crumb: object, _hint: object) -> None:
    """What happened before an error is in our own log."""


def sends_to_sentry(settings: Settings) -> bool:
    """Whether there is a DSN."""
    return settings.sentry_dsn is not None and bool(settings.sentry_dsn.get_secret_value())


def _only(given: Mapping[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    return {key: given[key] for key in keys if key in given}


def _exception(given: Mapping[str, Any]) -> dict[str, Any]:
    """One exception of a chain: its type and where it passed; its message if it is ours."""
    made = _only(given, ("type", "module"))
    if _is_ours(given):
        made["value"] = given.get("value")
    if given.get("mechanism"):
        made["mechanism"] = _only(given["mechanism"], ("type", "handled"))
    frames = (given.get("stacktrace") or {}).get("frames")
    if frames:
        made["stacktrace"] = {"frames": [_frame(frame) for frame in frames]}
    return made


def _is_ours(given: Mapping[str, Any]) -> bool:
    kind = getattr(errors, str(given.get("type")), None)
    return given.get("module") == errors.__name__ and isinstance(kind, type) and issubclass(kind, _OURS)


def _frame(given: Mapping[str, Any]) -> dict[str, Any]:
    """A place in the code; an absolute path would name somebody's home directory."""
    path = PurePath(given.get("filename") or "")
    return {**_only(given, _FRAME), "filename": path.name if path.is_absolute() else str(path)}


class _Reporter(logging.Handler):
    """Sends what is logged as an error: our own events by their fixed name, others by their logger's."""

    def emit(self, record: logging.LogRecord) -> None:
        """Hand it over to the SDK, which sends it from a thread of its own; never raises."""
        import sentry_sdk
        from sentry_sdk.utils import capture_internal_exceptions, event_from_exception

        with capture_internal_exceptions():
            message, tags, info = _told(record)
            event: Event = {}
            hint: Hint = {}
            if info is not None:
                options = sentry_sdk.get_client().options
                event, hint = event_from_exception(info, options, {"type": "logging", "handled": True})
            if (operation := _operation(info)) is not None:
                tags["operation"] = operation
            event.update({"level": "error", "logger": record.name, "message": message, "tags": tags})
            sentry_sdk.capture_event(event, hint)


def _told(record: logging.LogRecord) -> tuple[str, dict[str, str], ExcInfo | None]:
    """What a log record says without content: a name, tags and the exception.

    structlog hands over its fields as the message. It has taken the exception out by then, but is
    called where that is being handled.
    """
    fields, info = record.msg, record.exc_info
    if not (isinstance(fields, dict) and record.name.startswith("memlane.")):
        return f"an error in {record.name}", {}, _complete(info)
    tags = {name: str(fields[name]) for name in _TAGS if name in fields}
    return str(fields.get("event")), tags, _complete(sys.exc_info()) if "exception" in fields else None


def _operation(info: ExcInfo | None) -> str | None:
    """The operation that an error happened in, or that is under way."""
    noted = getattr(info[1], _NOTED, None) if info is not None else None
    return noted or OPERATION.get()


def _complete(info: object) -> ExcInfo | None:
    return info if isinstance(info, tuple) and info[1] is not None else None


def _transport() -> "type[HttpTransport]":
    from sentry_sdk.transport import HttpTransport

    class Transport(HttpTransport):
        """Says once when nothing can be sent: a Sentry that is down must not fill our log."""

        said = False

        def on_dropped_event(self, reason: str) -> None:
            """What could not be sent is gone."""
            if not self.said:
                self.said = True
                log.warning("sentry.not_sent", why=reason)

    return Transport


def _say_nothing(_pending: int, _timeout_s: float) -> None:
    """The SDK would write to standard error that it waits."""
