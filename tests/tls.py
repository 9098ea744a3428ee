"""TLS in front of servers that speak none: a proxy that ends it, and an authority of the tests' own."""

import asyncio
import gc
import ssl
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread

import trustme


class Authority:
    """Issues certificates, and says in which file its own is."""

    def __init__(self, file: Path) -> None:
        self._ca = trustme.CA()
        self._ca.cert_pem.write_to_path(str(file))
        self.file = file

    def context(self, host: str) -> ssl.SSLContext:
        """What a server of this name presents; `postgresql` is what libpq asks for when it begins with TLS."""
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._ca.issue_cert(host).configure_cert(made)
        made.set_alpn_protocols(["postgresql"])
        return made


class Proxy:
    """Where it listens, and what it was asked for."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.sessions: list[tuple[str | None, str | None]] = []
        """Version and application protocol of each session that came about."""


@contextmanager
def tls_before(port: int, context: ssl.SSLContext) -> Iterator[Proxy]:
    """A proxy that speaks TLS and passes everything on to a port of this machine."""
    ready, ended = Event(), asyncio.Event()
    proxies: list[Proxy] = []
    writers: list[asyncio.StreamWriter] = []

    async def serve() -> None:
        server = await asyncio.start_server(passed_on, "127.0.0.1", 0, ssl=context)
        proxies.append(Proxy(server.sockets[0].getsockname()[1]))
        ready.set()
        await ended.wait()
        server.close()
        for writer in writers:
            with suppress(AttributeError):  # asyncio's own, where the session has ended already
                writer.transport.abort()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        if tasks:
            await asyncio.wait(tasks, timeout=5)
        await asyncio.sleep(0.05)  # transports close in a later turn of the loop

    async def passed_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        session: ssl.SSLObject = writer.get_extra_info("ssl_object")
        proxies[0].sessions.append((session.version(), session.selected_alpn_protocol()))
        behind_reader, behind_writer = await asyncio.open_connection("127.0.0.1", port)
        writers.extend((writer, behind_writer))
        await asyncio.gather(copied(reader, behind_writer), copied(behind_reader, writer))

    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda *_: None)  # a client that refuses our certificate is what a test is about
    thread = Thread(target=loop.run_until_complete, args=(serve(),), daemon=True)
    thread.start()
    assert ready.wait(10)
    try:
        yield proxies[0]
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join(10)
        loop.close()
        with warnings.catch_warnings():  # of sessions that were still beginning
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()


async def copied(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy until one side has enough."""
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()
