"""An OpenTelemetry collector of the tests' own: takes spans by OTLP over HTTP, and tells what came."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span


@dataclass
class Collector:
    """What came, as it came."""

    url: str
    raw: list[bytes]
    status: int = 200

    @property
    def services(self) -> set[str]:
        """Who sent spans."""
        return {
            attribute.value.string_value
            for body in list(self.raw)
            for part in ExportTraceServiceRequest.FromString(body).resource_spans
            for attribute in part.resource.attributes
            if attribute.key == "service.name"
        }

    def spans(self, name: str) -> list[Span]:
        """The spans of a name."""
        return [
            span
            for body in list(self.raw)
            for part in ExportTraceServiceRequest.FromString(body).resource_spans
            for scope in part.scope_spans
            for span in scope.spans
            if span.name == name
        ]


@contextmanager
def collecting() -> Iterator[Collector]:
    """A collector on a port of its own."""
    made = Collector("", [])

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path == "/v1/traces" and made.status == 200:
                made.raw.append(body)
            self.send_response(made.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    made.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
