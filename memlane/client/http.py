"""HTTP as the clients speak it: one request, one answer, over connections that are kept.

urllib3 carries it here, and aiohttp for asyncio (async_http.py): for a request of one memory they were measured to take
a third, and a tenth, of the processor time of a library that serves both ways.
"""

import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import SplitResult, urlencode, urlsplit
from urllib.request import getproxies, proxy_bypass

import certifi
import urllib3

from memlane.client.address import certificates
from memlane.errors import Unavailable

CONNECTIONS = 100
"""How many connections a client has at most."""


@dataclass(frozen=True, slots=True)
class Request:
    """What is sent; the path and its parameters are escaped already."""

    method: str
    path: str
    body: bytes | None
    headers: Mapping[str, str]
    timeout_s: float
    """How long each step may take: connecting, and any pause in what comes."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; headers by their names in lower case."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes = b""


def path_of(path: str, params: Mapping[str, Any]) -> str:
    """A path with its parameters; a list names one again and again."""
    return f"{path}?{urlencode({name: _text(value) for name, value in params.items()}, doseq=True)}" if params else path


def _text(value: Any) -> str | Sequence[str]:
    if isinstance(value, list | tuple):
        return [str(one) for one in value]
    return str(value).lower() if isinstance(value, bool) else str(value)


class Connections:
    """Connections of a synchronous client; safe to share between threads.

    Args:
        url: of the gateway.
    """

    def __init__(self, url: str) -> None:
        where = urlsplit(url)
        self._server = server_of(where)
        self._proxy: urllib3.ProxyManager | None = None
        tls = {"ssl_context": tls_trust()} if where.scheme == "https" else {}
        options: dict[str, Any] = {"maxsize": CONNECTIONS, "retries": False, **tls}
        if (proxy := proxy_of(where)) is not None:
            self._proxy = urllib3.ProxyManager(proxy, **options)
            self._prefix = url
        else:
            self._pool = urllib3.connection_from_url(url, **options)
            self._prefix = where.path.rstrip("/")

    def send(self, request: Request) -> Answer:
        """Send a request, and wait for its answer.

        Raises:
            Unavailable: there was none.
        """
        try:
            came = (self._proxy or self._pool).urlopen(
                request.method,
                self._prefix + request.path,
                body=request.body,
                headers=dict(request.headers),
                timeout=request.timeout_s,
                redirect=False,
            )
        except urllib3.exceptions.HTTPError as error:
            raise unreachable(self._server, error) from None
        return Answer(came.status, {name.lower(): value for name, value in came.headers.items()}, came.data)

    def close(self) -> None:
        """Close them."""
        if self._proxy is not None:
            self._proxy.clear()
        else:
            self._pool.close()


def server_of(where: SplitResult) -> str:
    """A server as a line about it names it."""
    return f"{where.hostname}:{where.port or where.scheme}"


def unreachable(server: str, error: Exception) -> Unavailable:
    """The error for a request that got no answer."""
    return Unavailable(f"{server} does not answer ({type(error).__name__})")


def proxy_of(where: SplitResult) -> str | None:
    """The proxy that the environment names for a server."""
    if proxy_bypass(where.hostname or ""):
        return None
    proxies = getproxies()
    return proxies.get(where.scheme) or proxies.get("all")


def tls_trust() -> ssl.SSLContext:
    """Whose certificates are trusted: those that the environment names, or else certifi's."""
    file, folder = certificates()
    if file or folder:
        return ssl.create_default_context(cafile=file, capath=folder)
    return ssl.create_default_context(cafile=certifi.where())
