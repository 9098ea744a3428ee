"""The hook for OpenTelemetry: a span for each operation, sent by OTLP over HTTP, also across the queue.

What somebody waits for or asked for just so continues the caller's trace. A drain begins a trace of its own and links
to the span that woke it: one wake-up stands for all memories of its shard, and the next claim may hold none of
those that caused it, so that a parent would be a guess. It is the same for a batch of one, so that one query finds all.
"""

from collections.abc import Sequence
from contextvars import Token
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from memlane import __version__
from memlane.config.settings import Settings
from memlane.errors import MemlaneError, Misconfigured
from memlane.tasks.hooks.spec import TRACEPARENT, Fact, Operation, hookimpl

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Link, Span, SpanKind

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Open:
    """What has to be put back when an operation ends."""

    span: "Span"
    context: "Token[Context]"
    traceparent: "Token[str | None]"


class OpenTelemetry:
    """Makes spans.

    Args:
        provider: the SDK's.
        tenants: whether spans name the tenant.
    """

    priority = -100  # a span has the other hooks in it, which may ask for it

    def __init__(self, provider: "TracerProvider", *, tenants: bool) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("memlane", __version__)
        self._tenants = tenants
        self._open: dict[Operation, _Open] = {}

    @hookimpl
    def before(self, operation: Operation) -> None:
        """Begin a span and make it the current one."""
        from opentelemetry import context, trace

        span = self._tracer.start_span(
            operation.name,
            parent_of(operation),
            kind_of(operation),
            self._attributes(operation),
            links_of(operation),
        )
        token = context.attach(trace.set_span_in_context(span))
        self._open[operation] = _Open(span, token, TRACEPARENT.set(traceparent(span)))

    @hookimpl
    def after(self, operation: Operation) -> None:
        """End its span."""
        self._end(operation)

    @hookimpl
    def on_error(self, operation: Operation, error: BaseException) -> None:
        """End its span with the error's type; the message stays here, since it may quote."""
        from opentelemetry.trace import StatusCode

        span = self._open[operation].span
        span.set_attribute("error.type", type(error).__qualname__)
        if not isinstance(error, MemlaneError) or error.ours:
            span.set_status(StatusCode.ERROR)
        self._end(operation)

    @hookimpl
    def close(self) -> None:
        """Send what is left."""
        self._provider.shutdown()

    def _end(self, operation: Operation) -> None:
        from opentelemetry import context

        opened = self._open.pop(operation)
        TRACEPARENT.reset(opened.traceparent)
        context.detach(opened.context)
        opened.span.end()

    def _attributes(self, operation: Operation) -> dict[str, Fact]:
        facts: dict[str, Fact] = {"memlane.items": operation.items}
        facts |= {f"memlane.{name}": fact for name, fact in operation.attributes.items()}
        if operation.shard is not None:
            facts["memlane.shard"] = operation.shard
        if self._tenants and operation.tenant is not None:
            facts["memlane.tenant"] = operation.tenant
        return facts


def parent_of(operation: Operation) -> "Context | None":
    """The context that a span begins in: the caller's, an empty one for what follows, else the current one."""
    from opentelemetry.context import Context

    if operation.continues is not None:
        return _remote(operation.continues)
    return Context() if _consumes(operation) else None


def links_of(operation: Operation) -> "list[Link]":
    """A link to the span that caused it, if that is one."""
    from opentelemetry import trace

    if operation.follows is None:
        return []
    cause = trace.get_current_span(_remote(operation.follows)).get_span_context()
    return [trace.Link(cause)] if cause.is_valid else []


def kind_of(operation: Operation) -> "SpanKind":
    """What OpenTelemetry calls it: from a queue, to a provider, at a door, or neither."""
    from opentelemetry.trace import SpanKind

    if _consumes(operation):
        return SpanKind.CONSUMER
    if operation.name == "embed":
        return SpanKind.CLIENT
    return SpanKind.INTERNAL if operation.name.startswith("beat.") else SpanKind.SERVER


def _consumes(operation: Operation) -> bool:
    return operation.name.startswith(("drain.", "memory."))


def _remote(given: str) -> "Context":
    """The context that a `traceparent` names; an empty one if it names none."""
    from opentelemetry.context import Context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    return TraceContextTextMapPropagator().extract({"traceparent": given}, Context())


def traceparent(span: "Span") -> str:
    """W3C's name of a span."""
    context = span.get_span_context()
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


def make(settings: Settings) -> OpenTelemetry | None:
    """Wanted where a collector's address is set.

    Raises:
        Misconfigured: it is, but its packages are not installed.
    """
    if settings.otel_endpoint is None or not (base := settings.otel_endpoint.get_secret_value()):
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ImportError:
        raise Misconfigured(
            "OTEL_EXPORTER_OTLP_ENDPOINT needs packages: pip install 'memlane[opentelemetry]'"
        ) from None
    exporter = OTLPSpanExporter(endpoint=f"{base.rstrip('/')}/v1/traces")
    return OpenTelemetry(_provider(exporter), tenants=settings.observe_tenants)


def _provider(exporter: "SpanExporter") -> "TracerProvider":
    """A provider of our own: one that the deployment has set for all is not ours to shut down."""
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    ours = Resource({"service.name": "memlane", "service.version": __version__})
    provider = TracerProvider(resource=ours.merge(OTELResourceDetector().detect()), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(told_once(exporter)))
    return provider


def told_once(exporter: "SpanExporter") -> "SpanExporter":
    """The same, but it says once when nothing can be sent: a collector that is down must not fill our log."""
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

    class Telling(SpanExporter):
        sent = True

        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            result = exporter.export(spans)
            sent, self.sent = self.sent, result is SpanExportResult.SUCCESS
            if sent and not self.sent:
                log.warning("opentelemetry.not_sent")
            return result

        def shutdown(self) -> None:
            exporter.shutdown()

    return Telling()
