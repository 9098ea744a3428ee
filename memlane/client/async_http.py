"""HTTP as the client for asyncio speaks it."""

from urllib.parse import urlsplit

import aiohttp
from yarl import URL

from memlane.client.http import CONNECTIONS, Answer, Request, proxy_of, server_of, tls_trust, unreachable

_KEPT_S = 4.0
"""How long an idle connection is kept; the gateway keeps it for 5 s."""


class AsyncConnections:
    """Connections of an asyncio client; they belong to the loop of the first request.

    Args:
        url: of the gateway.
    """

    def __init__(self, url: str) -> None:
        where = urlsplit(url)
        self._server = server_of(where)
        self._url = url
        self._proxy = proxy_of(where)
        self._tls = tls_trust() if where.scheme == "https" else True
        self._session: aiohttp.ClientSession | None = None

    async def send(self, request: Request) -> Answer:
        """As `Connections.send`."""
        step = request.timeout_s
        try:
            async with self._connected().request(
                request.method,
                URL(self._url + request.path, encoded=True),
                data=request.body,
                headers=request.headers,
                timeout=aiohttp.ClientTimeout(total=None, connect=step, sock_connect=step, sock_read=step),
                allow_redirects=False,
                proxy=self._proxy,
            ) as came:
                content = await came.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise unreachable(self._server, error) from None
        return Answer(came.status, {name.lower(): value for name, value in came.headers.items()}, content)

    def _connected(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=CONNECTIONS, keepalive_timeout=_KEPT_S, ssl=self._tls)
            self._session = aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())
        return self._session

    async def close(self) -> None:
        """Close them."""
        if self._session is not None:
            await self._session.close()
