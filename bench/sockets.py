"""Bare HTTP: requests that were put together before the clock runs, so that sending them costs little."""

import asyncio
from collections.abc import Iterator, Sequence
from urllib.parse import urlsplit


def encoded(url: str, api_key: str, path: str, body: bytes) -> bytes:
    """A POST with a JSON body, as it goes over the wire."""
    head = [
        f"POST {path} HTTP/1.1",
        f"host: {urlsplit(url).netloc}",
        f"authorization: Bearer {api_key}",
        "content-type: application/json",
        f"content-length: {len(body)}",
    ]
    return "\r\n".join([*head, "", ""]).encode() + body


async def send_all(url: str, requests: Sequence[bytes], connections: int) -> None:
    """Send requests over so many connections, on each the next one when the one before is answered.

    Raises:
        RuntimeError: one was answered with another code than 2xx.
    """
    where, waiting = urlsplit(url), iter(requests)
    await asyncio.gather(*(_send(where.hostname or "", where.port or 80, waiting) for _ in range(connections)))


async def _send(host: str, port: int, requests: Iterator[bytes]) -> None:
    reader, writer = await asyncio.open_connection(host, port)
    try:
        for request in requests:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(_length(head))
            if not head.startswith(b"HTTP/1.1 2"):
                raise RuntimeError(f"answered with {head.splitlines()[0].decode()}")
    finally:
        writer.close()


def _length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.partition(b":")[2])
    raise RuntimeError("an answer does not tell its length")
