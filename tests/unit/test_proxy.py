"""The proxy of the fault tests: it has to break what they say that it breaks, or they hold nothing."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread

import pytest

from tests.proxy import Moment, Proxy, Way
from tests.support import eventually


class Echo:
    """A server that says everything back, and keeps what it heard."""

    def __init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self.heard = b""
        self._open: list[socket.socket] = []
        Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for connection in self._open:
            connection.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            self._open.append(connection)
            Thread(target=self._echo, args=(connection,), daemon=True).start()

    def _echo(self, connection: socket.socket) -> None:
        try:
            while data := connection.recv(1000):
                self.heard += data
                connection.sendall(data)
        except OSError:
            pass  # it was reset
        connection.close()


@pytest.fixture
def echo() -> Iterator[Echo]:
    made = Echo()
    yield made
    made.close()


@pytest.fixture
def proxy(echo: Echo) -> Iterator[Proxy]:
    with Proxy("127.0.0.1", echo.port) as made:
        yield made


@contextmanager
def connected(proxy: Proxy, timeout_s: float = 10) -> Iterator[socket.socket]:
    with socket.create_connection((proxy.host, proxy.port), timeout_s) as made:
        yield made


def asked(connection: socket.socket, what: bytes = b"tea?") -> bytes:
    connection.sendall(what)
    return connection.recv(1000)


def test_it_passes_on_what_is_said(proxy: Proxy) -> None:
    with connected(proxy) as first, connected(proxy) as second:
        assert asked(first) == asked(second) == b"tea?"
        assert (proxy.accepted, proxy.open) == (2, 2)
    eventually(lambda: proxy.open == 0)


def test_a_cut_resets_and_refuses_until_it_is_mended(proxy: Proxy) -> None:
    with connected(proxy) as connection:
        assert asked(connection) == b"tea?"
        proxy.cut()
        with pytest.raises(ConnectionResetError):
            connection.recv(1000)
    for _ in range(3):
        with pytest.raises(ConnectionRefusedError), connected(proxy):
            pass
    proxy.mend()
    with connected(proxy) as connection:
        assert asked(connection) == b"tea?"


def test_a_stall_keeps_connections_and_what_was_said(proxy: Proxy, echo: Echo) -> None:
    with connected(proxy, 0.3) as connection:
        assert asked(connection) == b"tea?"
        proxy.stall(Way.TO_CLIENT)
        with pytest.raises(TimeoutError):
            asked(connection, b"more")
        eventually(lambda: echo.heard == b"tea?more")
        proxy.stall()
        with pytest.raises(TimeoutError):
            asked(connection, b" tea")
        assert echo.heard == b"tea?more"
        proxy.mend()
        eventually(lambda: echo.heard == b"tea?more tea")
        connection.settimeout(10)
        assert connection.recv(4, socket.MSG_WAITALL) == b"more"


@pytest.mark.parametrize("accepting", [True, False])
def test_a_black_hole_answers_nobody(proxy: Proxy, echo: Echo, accepting: bool) -> None:
    proxy.black_hole(accepting=accepting)
    with pytest.raises(TimeoutError), connected(proxy, 0.3) as connection:
        asked(connection)
    assert echo.heard == b""
    proxy.mend()
    with connected(proxy) as connection:
        assert asked(connection, b"now") == b"now"


@pytest.mark.parametrize("moment", list(Moment))
def test_a_connection_is_cut_at_the_moment_that_was_chosen(proxy: Proxy, echo: Echo, moment: Moment) -> None:
    trap = proxy.cut_when(lambda said: b"COMMIT" in said, moment)
    with connected(proxy) as connection:
        assert asked(connection, b"BEGIN") == b"BEGIN"
        connection.sendall(b"COM")
        assert connection.recv(1000) == b"COM"
        connection.sendall(b"COMMIT")
        with pytest.raises(ConnectionResetError):
            connection.recv(1000)
    assert trap.count == 1
    if moment is Moment.BEFORE:
        assert echo.heard == b"BEGINCOM"
    else:
        eventually(lambda: echo.heard == b"BEGINCOMCOMMIT")
    with connected(proxy) as connection:
        assert asked(connection, b"COMMIT") == b"COMMIT"  # once


def test_the_end_of_a_request_is_held_back(proxy: Proxy, echo: Echo) -> None:
    trap = proxy.hold_when(lambda said: said.endswith(b"SYNC"), 4)
    with connected(proxy) as connection, connected(proxy, 0.3) as other:
        assert asked(connection, b"BEGIN") == b"BEGIN"
        connection.sendall(b"EXECUTESYNC")
        assert connection.recv(1000) == b"EXECUTE"
        with pytest.raises(TimeoutError):
            asked(other)
        assert (trap.count, echo.heard) == (1, b"BEGINEXECUTE")
        proxy.mend()
        assert connection.recv(1000) == b"SYNC"


def test_a_url_leads_through_it(echo: Echo) -> None:
    proxy, url = Proxy.before(f"redis://:secret@127.0.0.1:{echo.port}/1")
    with proxy:
        assert url == f"redis://:secret@127.0.0.1:{proxy.port}/1"
