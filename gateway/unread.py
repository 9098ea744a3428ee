"""What comes of a body that nobody reads: a little of it is taken in, and the connection of a longer one ends.

A request may be answered before its body is whole: without a good key, over the limit, too slow. The
server would go on reading it, for as long as somebody sends, or wait for the rest for ever. If it
closed the connection at once, the client, which still sends, might never see the answer.
"""

import asyncio
from contextlib import suppress
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send


@dataclass(frozen=True, slots=True)
class _Patience:
    """How much of a body is taken in for nothing, and for how long."""

    most_bytes: int
    most_s: float


_BEFORE = _Patience(256 * 1024, 0.2)
"""Before the answer: what ends by then leaves the connection as it is."""

_AFTER = _Patience(8 * 1024 * 1024, 2.0)
"""After the answer, so that a client that sends all before it reads gets to read it."""


class CloseUnread:
    """ASGI middleware that ends a connection with its answer when the request's body is still to come."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and see how much of its body has been read when it is answered."""
        headers = dict(scope.get("headers", ()))
        if scope["type"] != "http" or not _has_body(headers):
            await self._app(scope, receive, send)
            return
        body = _Body(receive, sent=b"expect" not in headers)
        closes = False

        async def answering(message: Message) -> None:
            nonlocal closes
            if message["type"] == "http.response.start" and not await body.ends(_BEFORE):
                closes = True
                message = {**message, "headers": [*message.get("headers", ()), (b"connection", b"close")]}
            if closes and message["type"] == "http.response.body" and not message.get("more_body", False):
                await send({**message, "more_body": True})
                await body.ends(_AFTER)
                message = {"type": "http.response.body", "body": b"", "more_body": False}
            await send(message)

        await self._app(scope, body.receive, answering)


class _Body:
    """A request's body, as it is read; not sent yet where the client waits to be asked for it."""

    def __init__(self, receive: Receive, *, sent: bool) -> None:
        self._receive = receive
        self._sent = sent
        self._whole = False

    async def receive(self) -> Message:
        """The next part."""
        message = await self._receive()
        self._whole = self._whole or not message.get("more_body", False)
        return message

    async def ends(self, patience: _Patience) -> bool:
        """Whether all of it has come, or comes while we take it in for nothing."""
        size = 0
        with suppress(TimeoutError):
            async with asyncio.timeout(patience.most_s):
                while self._sent and not self._whole and size < patience.most_bytes:
                    size += len((await self.receive()).get("body", b""))
        return self._whole


def _has_body(headers: dict[bytes, bytes]) -> bool:
    return b"transfer-encoding" in headers or headers.get(b"content-length", b"0") != b"0"
