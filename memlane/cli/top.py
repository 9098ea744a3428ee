"""top: the whole system in one view that renews itself, over HTTP with the admin key."""

import os
import select
import sys
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from threading import Event, Thread
from time import monotonic, sleep
from typing import Annotated, TypeVar

import typer
from rich.console import Console
from rich.live import Live as Screen

from memlane.cli.frames import Frame, Look, frame
from memlane.cli.screen import screen
from memlane.cli.session import Session, connected
from memlane.client import Client
from memlane.client.calls import Call
from memlane.contract import wire
from memlane.contract.health import Health, HealthSummary, summary
from memlane.contract.live import Live
from memlane.contract.status import Status
from memlane.errors import MemlaneError, NotFound, Unauthorized

T = TypeVar("T")

_PATIENCE_S = 5.0
"""How long a gateway is waited for."""

_OVER_S = 15.0
"""Over how long rates are, at least: processes say every few seconds what they have done, not all at once."""

_KEY_S = 0.1
"""How soon a key is noticed."""


@connected
def top(
    session: Session,
    interval: Annotated[float, typer.Option(min=0.5, max=60, help="Seconds from one look to the next.")] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Show one frame, of an interval, and end.")] = False,
) -> None:
    """Show what goes on: queues, drains, latencies, processes, shards, cost; renewed until q or Ctrl-C.

    A gateway that goes away is waited for. Rates are over the last 15 seconds; with --once or --json over one interval.

    Example: memlane top --interval 5
    """
    with Client(session.url, session.admin_key, timeout=_PATIENCE_S, retries=0) as client:
        source = Source(client, session.url)
        if once or session.out.as_json or not session.out.terminal:
            source.look()
            sleep(interval)
            found = source.look()
            session.out.result(found, screen(found))
            return
        try:
            watch(source, interval)
        except KeyboardInterrupt:
            return


class Source:
    """Where frames come from: a gateway, asked again and again."""

    def __init__(self, client: Client, url: str) -> None:
        self._client = client
        self._looks: deque[Live] = deque()
        self.latest = Frame(url)

    def look(self) -> Frame:
        """Look, and make the next frame.

        Raises:
            MemlaneError: the gateway does not answer, or not us.
        """
        look = Look(self._get("/v1/admin/status", Status), self._get("/v1/admin/live", Live), self._health())
        while len(self._looks) > 1 and (look.live.at - self._looks[1].at).total_seconds() >= _OVER_S:
            self._looks.popleft()
        before = self._looks[0] if self._looks else None
        self._looks.append(look.live)
        self.latest = frame(self.latest.url, before, look)
        return self.latest

    def again(self) -> None:
        """Look; a gateway that does not answer is a frame as well."""
        try:
            self.look()
        except Unauthorized:
            raise
        except MemlaneError as error:
            self.latest = replace(self.latest, error=str(error))

    def _get(self, path: str, kind: type[T]) -> T:
        return self._client.send(Call("GET", path, lambda data: wire.load(kind, data)))

    def _health(self) -> HealthSummary | None:
        try:
            return summary(self._get("/v1/health", Health))
        except (NotFound, ValueError):
            return None


class Watcher(Thread):
    """Looks in a thread of its own, so that a gateway that hangs holds up no key."""

    def __init__(self, source: Source, interval_s: float) -> None:
        super().__init__(name="top", daemon=True)
        self._source = source
        self._interval_s = interval_s
        self.renewed = Event()
        self.refused: MemlaneError | None = None

    def run(self) -> None:
        """Look, for ever."""
        while self.refused is None:
            begun = monotonic()
            try:
                self._source.again()
            except MemlaneError as error:
                self.refused = error
            self.renewed.set()
            sleep(max(0.1, self._interval_s - (monotonic() - begun)))


def watch(source: Source, interval_s: float) -> None:
    """Show frames until somebody ends it.

    Raises:
        Unauthorized: the key is not, or no more, the admin's.
    """
    watcher = Watcher(source, interval_s)
    console = Console(highlight=False)
    with pressed_keys() as quits, Screen(console=console, screen=True, auto_refresh=False) as shown:
        shown.update(screen(source.latest, keys=True), refresh=True)
        watcher.start()
        while not quits(_KEY_S):
            if watcher.refused is not None:
                raise watcher.refused
            if watcher.renewed.is_set():
                watcher.renewed.clear()
                shown.update(screen(source.latest, keys=True), refresh=True)


@contextmanager
def pressed_keys() -> Iterator[Callable[[float], bool]]:
    """Whether q is pressed within so many seconds; the terminal is as before in the end."""
    import termios  # not everywhere, and needed only here
    import tty

    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    tty.setcbreak(descriptor)

    def quits(wait_s: float) -> bool:
        ready, _, _ = select.select([descriptor], [], [], wait_s)
        return bool(ready) and os.read(descriptor, 1).lower() in (b"q", b"")

    try:
        yield quits
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
