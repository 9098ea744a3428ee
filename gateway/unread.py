"""What comes of a body that nobody reads: a little of it is taken in, and the connection of a longer one ends.

A request may be answered before its body is whole: without a good key, over the limit, too slow. The
server would go on reading it, for as long as somebody sends, or wait for the rest for ever.
"""

import asyncio
from contextlib import suppress

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_SWALLOWED_BYTES = 256 * 1024
"""How much of a body is taken in for nothing, so that the connection can be kept."""

_SWALLOWED_S = 0.2
"""How long we wait for that."""


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
        body = _Body(receive)

        async def answering(message: Message) -> None:
            if message["type"] == "http.response.start" and not await body.ends(b"expect" not in headers):
                message = {**message, "headers": [*message.get("headers", ()), (b"connection", b"close")]}
            await send(message)

        await self._app(scope, body.receive, answering)


class _Body:
    """A request's body, as it is read."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._whole = False

    async def receive(self) -> Message:
        """The next part."""
        message = await self._receive()
        self._whole = self._whole or not message.get("more_body", False)
        return message

    async def ends(self, swallow: bool) -> bool:
        """Whether all of it has come, or comes right now if we swallow a little."""
        size = 0
        with suppress(TimeoutError):
            async with asyncio.timeout(_SWALLOWED_S):
                while swallow and not self._whole and size < _SWALLOWED_BYTES:
                    size += len((await self.receive()).get("body", b""))
        return self._whole


def _has_body(headers: dict[bytes, bytes]) -> bool:
    return b"transfer-encoding" in headers or headers.get(b"content-length", b"0") != b"0"
