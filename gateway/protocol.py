"""HTTP as uvicorn speaks it, with bounds on what comes before a request is known: how large, and how slow.

uvicorn itself takes in a head of any size, for as long as somebody sends it, before anybody has seen
a key; so it does with what may follow a chunked body.
"""

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_BYTES = 64 * 1024
"""Most bytes of a head, and of what is between the parts of a body."""

HEAD_S = 20.0
"""How long a head may take to arrive, from the connection on or from its first byte."""


class BoundedProtocol(HttpToolsProtocol):
    """One connection."""

    _came = 0
    """Bytes that came since a head or a part of a body was last whole."""
    _moved = False
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        """Somebody is there, and has to say what is wanted."""
        super().connection_made(transport)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody is there any more."""
        self._waited()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Go on, unless too much has come that is neither a head nor a body."""
        self._moved = False
        super().data_received(data)
        self._came = 0 if self._moved else self._came + len(data)
        if self._came > HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response("The head of the request is too large.")

    def on_message_begin(self) -> None:
        """A head begins."""
        super().on_message_begin()
        self._wait()

    def on_headers_complete(self) -> None:
        """A head is whole."""
        self._moved = True
        self._waited()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A part of a body has come."""
        self._moved = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        """A request is whole."""
        self._moved = True
        super().on_message_complete()

    def _wait(self) -> None:
        self._waited()
        self._timer = self.loop.call_later(HEAD_S, self._too_slow)

    def _waited(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _too_slow(self) -> None:
        """No head came in time; an answer that is under way goes before."""
        if self.cycle is not None and not self.cycle.response_complete:
            self._wait()
        else:
            self.transport.close()
