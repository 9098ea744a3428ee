"""A Sentry of the tests' own: takes envelopes over HTTP, and tells what was in them."""

import gzip
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

from sentry_sdk.envelope import Envelope


class FakeSentry:
    """What came, as it came."""

    def __init__(self) -> None:
        self.raw: list[bytes] = []
        self.dsn = ""

    def take(self, body: bytes, encoding: str | None) -> None:
        """An envelope came."""
        assert encoding in (None, "gzip"), encoding
        self.raw.append(gzip.decompress(body) if encoding else body)

    @property
    def items(self) -> list[tuple[str, Any]]:
        """Every item of every envelope: its type and what it says."""
        parsed = [item for raw in list(self.raw) for item in Envelope.deserialize(raw).items]
        return [(str(item.headers["type"]), json.loads(item.get_bytes())) for item in parsed]

    @property
    def events(self) -> list[Any]:
        """The errors."""
        return [said for kind, said in self.items if kind == "event"]

    def check_ins(self, slug: str) -> list[str]:
        """The states that a monitor was told, in order."""
        return [said["status"] for kind, said in self.items if kind == "check_in" and said["monitor_slug"] == slug]

    def of_type(self, name: str) -> list[Any]:
        """The errors with an exception of this type, whether it is the last of its chain or not."""
        return [event for event in self.events if name in types(event)]


def types(event: Any) -> list[str]:
    """The types of an event's exceptions."""
    return [value["type"] for value in event.get("exception", {}).get("values", [])]


@contextmanager
def listening() -> Iterator[FakeSentry]:
    """A Sentry on a port of its own."""
    ingest = FakeSentry()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            ingest.take(self.rfile.read(int(self.headers["Content-Length"])), self.headers.get("Content-Encoding"))
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    ingest.dsn = f"http://key@127.0.0.1:{server.server_port}/1"
    try:
        yield ingest
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
