"""Money spent by SQL of the tests' own, as whoever asks a provider spends it: reserved, then settled."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from json import loads
from threading import Event, Thread
from typing import Any
from uuid import UUID, uuid4

import psycopg

MODEL = "text-embedding-3-small"
"""$0.02 per million tokens: 50 tokens are a micro-dollar."""

Session = psycopg.Connection[tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class Call:
    """A request to a provider for one agent."""

    tenant: str = "acme"
    agent: str = ""
    tokens: int = 50
    texts: int = 1
    saved_texts: int = 0
    saved_tokens: int = 0
    failed: bool = False
    model: str = MODEL
    took_s: float | None = 0.1


def reserved(connection: Session, call: Call, lives_s: float = 60.0) -> UUID | None:
    """Set aside what a call may cost; None where the budgets do not allow it."""
    id_ = uuid4()
    row = connection.execute(
        "SELECT granted FROM control.reserve(%s, %s, %s::text[], %s::text[], %s::bigint[], %s)",
        (id_, call.model, [call.tenant], [call.agent], [call.tokens], lives_s),
    ).fetchone()
    assert row is not None
    return id_ if row[0] else None


def spend(connection: Session, call: Call) -> bool:
    """Make a call, if the budgets allow it."""
    id_ = reserved(connection, call)
    if id_ is None:
        return False
    priced = connection.execute("SELECT FROM control.reservations WHERE id = %s", (id_,)).fetchone() is not None
    connection.execute(
        "SELECT control.settle(%s, %s, %s::text[], %s::text[], %s::float8[], %s::float8[], %s::int[], %s::bigint[],"
        " %s::int[], %s::bigint[], %s::int, %s::float8)",
        (
            *(id_ if priced else None, call.model, [call.tenant], [call.agent], [1.0], [float(call.failed)]),
            *([call.texts], [call.tokens], [call.saved_texts], [call.saved_tokens], call.texts, call.took_s),
        ),
    )
    return True


@dataclass
class Webhook:
    """A channel: a web server that takes messages, refuses them, or lets whoever calls hang."""

    url: str = ""
    messages: list[Any] = field(default_factory=list)
    asked: int = 0
    status: int = 200
    hangs: Event | None = None


@contextmanager
def webhook(**how: Any) -> Iterator[Webhook]:
    """One on a port of its own; its path has a secret."""
    hook = Webhook(**how)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            hook.asked += 1
            if hook.hangs is not None:
                hook.hangs.wait(60)
                return
            if hook.status == 200:
                hook.messages.append(loads(body))
            self.send_response(hook.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.block_on_close = False
    thread = Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    hook.url = f"json://user:hunter2@127.0.0.1:{server.server_port}/T0KEN"
    try:
        yield hook
    finally:
        if hook.hangs is not None:
            hook.hangs.set()
        server.shutdown()
        server.server_close()
        thread.join()
