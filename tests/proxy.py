"""A TCP proxy that fails on command: links are cut, stalled and black-holed exactly when a test wants it.

It listens on a free port of 127.0.0.1 from its making to its closing, so that its address stays the same
through all that happens to it. Its work is done in an event loop in a thread of its own; each of its
methods returns when what it says has happened.
"""

import asyncio
import socket
import struct
from collections.abc import Callable, Coroutine
from contextlib import suppress
from enum import Enum
from threading import Thread
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit, urlunsplit

from memlane.embedded.ports import free_port

T = TypeVar("T")

Matches = Callable[[bytes], bool]
"""Says of what a client sent since the server last spoke whether it is that which a test waits for."""

_CHUNK_BYTES = 65536
_RESET = struct.pack("ii", 1, 0)
"""The value of SO_LINGER with which a close sends RST."""


class Way(Enum):
    """A direction of bytes."""

    TO_SERVER = 0
    TO_CLIENT = 1


class Moment(Enum):
    """When a connection is cut of which a request has matched."""

    BEFORE = 0
    """The server gets to see nothing of what matched."""
    SENT = 1
    """The request was sent on; the server works on it while the client learns that the connection is gone."""
    ANSWERED = 2
    """The server has answered, so that it is done; the client never sees the answer."""


class Proxy:
    """Passes connections on to a server, until told otherwise.

    Args:
        host: of the server.
        port: of the server.
    """

    def __init__(self, host: str, port: int) -> None:
        self._target = host, port
        self._loop = asyncio.new_event_loop()
        self._listening = _bound()
        self._filling: list[socket.socket] = []
        self._links: set[_Link] = set()
        self._traps: list[_Trap] = []
        self._flow = {way: asyncio.Event() for way in Way}
        self.accepted = 0
        """How many connections were taken so far."""
        self.host, self.port = self._listening.getsockname()
        self._thread = Thread(target=self._loop.run_forever, name=f"proxy {self.port}", daemon=True)
        self._thread.start()
        self.mend()

    @classmethod
    def before(cls, url: str) -> tuple[Self, str]:
        """A proxy before the server of a URL, and the URL that leads through it."""
        parts = urlsplit(url)
        assert parts.hostname is not None, url
        assert parts.port is not None, url
        made = cls(parts.hostname, parts.port)
        user, at, _ = parts.netloc.rpartition("@")
        return made, urlunsplit(parts._replace(netloc=f"{user}{at}{made.host}:{made.port}"))

    @property
    def open(self) -> int:
        """How many connections there are now."""
        return len(self._links)

    def mend(self) -> None:
        """Pass everything on again: what is on its way arrives, new connections are taken. Traps stay set."""
        self._do(self._mend())

    def cut(self) -> None:
        """Reset all connections, and refuse new ones until `mend`."""
        self._do(self._cut())

    def reset(self) -> None:
        """Reset all connections; new ones are taken."""
        self._do(self._reset())

    def stall(self, *ways: Way) -> None:
        """Keep connections and take new ones, but let no byte through in a direction; in none if none is given."""
        self._do(self._stall(ways or tuple(Way)))

    def black_hole(self, *, accepting: bool = True) -> None:
        """No byte through in any direction; new connections are taken and left alone, or not even taken."""
        self._do(self._black_hole(accepting))

    def cut_when(self, matches: Matches, moment: Moment = Moment.ANSWERED, times: int = 1) -> "_Trap":
        """Cut a connection when its request matches; its count tells how often it has."""
        trap = _Trap(matches, moment, times)
        self._traps.append(trap)
        return trap

    def hold_when(self, matches: Matches, held_bytes: int) -> "_Trap":
        """Stall what goes to the server when a request matches, whose last bytes are held back until `mend`."""
        trap = _Trap(matches, Moment.BEFORE, 1, held_bytes)
        self._traps.append(trap)
        return trap

    def close(self) -> None:
        """End it."""
        self._do(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _do(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)

    async def _mend(self) -> None:
        self._listen()
        for flow in self._flow.values():
            flow.set()

    async def _cut(self) -> None:
        self._stop_listening()
        await self._reset()

    async def _reset(self) -> None:
        for link in list(self._links):
            await link.cut()

    async def _stall(self, ways: tuple[Way, ...]) -> None:
        for way in ways:
            self._flow[way].clear()

    async def _black_hole(self, accepting: bool) -> None:
        await self._stall(tuple(Way))
        if not accepting:
            self._stop_listening()
            self._listening.listen(0)
            while _waits_for_nobody(filler := _connecting(self.port)):
                self._filling.append(filler)
            self._filling.append(filler)

    async def _end(self) -> None:
        await self._cut()
        self._empty()
        self._listening.close()

    def _listen(self) -> None:
        self._empty()
        self._listening.listen(128)
        self._loop.add_reader(self._listening, self._take)

    def _empty(self) -> None:
        for filler in self._filling:
            filler.close()
        self._filling.clear()

    def _stop_listening(self) -> None:
        """Linux refuses connections then, and keeps the port for us."""
        self._loop.remove_reader(self._listening)
        with suppress(OSError):  # it did not listen
            self._listening.shutdown(socket.SHUT_RDWR)

    def _forget(self, link: "_Link") -> None:
        link.close()
        self._links.discard(link)

    def _take(self) -> None:
        with suppress(BlockingIOError, ConnectionError):
            client, _ = self._listening.accept()
            client.setblocking(False)
            self.accepted += 1
            link = _Link(client, self._flow, self._traps)
            self._links.add(link)
            link.task = self._loop.create_task(link.run(self._target))
            link.task.add_done_callback(lambda _: self._forget(link))


class _Trap:
    """What a request has to be for its connection to be cut, or held."""

    def __init__(self, matches: Matches, moment: Moment, times: int, held_bytes: int = 0) -> None:
        self._matches = matches
        self.moment = moment
        self.held_bytes = held_bytes
        self.left = times
        self.count = 0
        """How often it has struck."""

    def springs(self, said: bytes) -> bool:
        if self.left == 0 or not self._matches(said):
            return False
        self.left -= 1
        return True


class _Link:
    """One connection of a client, and the one to the server that belongs to it."""

    def __init__(self, client: socket.socket, flow: dict[Way, asyncio.Event], traps: list[_Trap]) -> None:
        self._client = client
        self._flow, self._traps = flow, traps
        self._said = bytearray()
        self._sprung: _Trap | None = None
        self._server = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._server.setblocking(False)
        self.task: asyncio.Task[None] | None = None

    async def run(self, target: tuple[str, int]) -> None:
        """Pass bytes on until one side ends."""
        loop = asyncio.get_running_loop()
        pumps: list[asyncio.Task[None]] = []
        try:
            await self._flow[Way.TO_SERVER].wait()
            await loop.sock_connect(self._server, target)
            pumps = [loop.create_task(self._to_server()), loop.create_task(self._to_client())]
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        except OSError:
            pass
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)

    def close(self) -> None:
        """Close both sides."""
        for side in (self._client, self._server):
            side.close()

    async def cut(self) -> None:
        """End it with a reset on both sides."""
        for side in (self._client, self._server):
            with suppress(OSError):  # it is closed
                side.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        assert self.task is not None
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        self.close()

    async def _to_server(self) -> None:
        loop = asyncio.get_running_loop()
        while data := await loop.sock_recv(self._client, _CHUNK_BYTES):
            await self._flow[Way.TO_SERVER].wait()
            self._said += data
            trap = next((trap for trap in self._traps if trap.springs(bytes(self._said))), None)
            if trap is None:
                await loop.sock_sendall(self._server, data)
            elif trap.held_bytes:
                await self._hold(trap, data)
            elif trap.moment is Moment.BEFORE:
                trap.count += 1
                self._reset_client()
                return
            else:
                await self._spring(trap, data)

    async def _hold(self, trap: _Trap, data: bytes) -> None:
        """All but the last bytes are sent on, and these when what goes to the server flows again."""
        loop, flow = asyncio.get_running_loop(), self._flow[Way.TO_SERVER]
        flow.clear()
        await loop.sock_sendall(self._server, data[: -trap.held_bytes])
        trap.count += 1
        await flow.wait()
        await loop.sock_sendall(self._server, data[-trap.held_bytes :])

    async def _spring(self, trap: _Trap, data: bytes) -> None:
        """The request is sent on; from here on the client hears nothing."""
        self._sprung = trap
        await asyncio.get_running_loop().sock_sendall(self._server, data)
        if trap.moment is Moment.SENT:
            trap.count += 1
            self._reset_client()
        await asyncio.Event().wait()  # until the server has answered

    async def _to_client(self) -> None:
        loop = asyncio.get_running_loop()
        while data := await loop.sock_recv(self._server, _CHUNK_BYTES):
            self._said.clear()
            if self._sprung is not None:
                if self._sprung.moment is Moment.ANSWERED:
                    self._sprung.count += 1
                    self._reset_client()
                return
            await self._flow[Way.TO_CLIENT].wait()
            await loop.sock_sendall(self._client, data)

    def _reset_client(self) -> None:
        self._client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._client.close()


def _bound() -> socket.socket:
    """A socket with a port that it keeps when it stops listening: only one that was asked for by number is kept."""
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.setblocking(False)
    made.bind(("127.0.0.1", free_port()))
    return made


def _connecting(port: int) -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    made.settimeout(0.2)
    with suppress(TimeoutError):
        made.connect(("127.0.0.1", port))
    return made


def _waits_for_nobody(connecting: socket.socket) -> bool:
    """Whether the connection was taken into the queue, in which there is room, then."""
    with suppress(OSError):
        connecting.getpeername()
        return True
    return False
