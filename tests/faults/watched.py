"""Processes that are started again when they end, as a supervisor would, unless they are held down."""

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread

import psutil

from memlane.embedded.process import Command, spawn
from tests.support import eventually

_LOOK_S = 0.1
"""How often it is looked whether one has ended."""

_READY_S = 90.0
"""How long one may take to be ready, on a machine that has much else to do."""


class Watched:
    """One process.

    Args:
        command: how it is started.
        log: where it writes to.
        answers: whether it does its work.
        ready: the file that it makes when it is ready; removed before each start.
    """

    def __init__(self, command: Command, log: Path, answers: Callable[[], bool], ready: Path | None = None) -> None:
        self.command, self.log = command, log
        self.starts = 0
        self.held = False
        self._answers, self._ready = answers, ready
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def name(self) -> str:
        return self.command.name

    @property
    def up(self) -> bool:
        """Whether it runs, ready or not."""
        return self._process is not None and self._process.poll() is None

    @property
    def process(self) -> "subprocess.Popen[bytes]":
        """The one that was started last."""
        assert self._process is not None, "it was not started yet"
        return self._process

    def look(self) -> None:
        """Start it if it does not run and is not held down."""
        if not self.up and not self.held:
            if self._ready is not None:
                self._ready.unlink(missing_ok=True)
            self._process = spawn(self.command, self.log)
            self.starts += 1

    def send(self, number: signal.Signals) -> None:
        """Send its main process a signal, if it runs."""
        if self.up and self._process is not None:
            self._process.send_signal(number)

    def send_all(self, number: signal.Signals) -> None:
        """Send a signal to its main process and to all that it has started."""
        if self.up and self._process is not None:
            os.killpg(self._process.pid, number)

    def children(self) -> list[psutil.Process]:
        """What its main process has started."""
        if not self.up or self._process is None:
            return []
        try:
            return list(psutil.Process(self._process.pid).children())
        except psutil.NoSuchProcess:
            return []

    def hold(self, number: signal.Signals) -> None:
        """End it by a signal and keep it down."""
        self.held = True
        self.send(number)
        eventually(lambda: not self.up, 30)

    def let_go(self) -> None:
        """Let it be started again, and wait until it is ready."""
        self.held = False
        self.wait()

    def wait(self) -> None:
        """Wait until it is ready."""
        eventually(self.is_ready, _READY_S)

    def is_ready(self) -> bool:
        """Whether it runs and does its work."""
        return self.up and (self._ready is None or self._ready.exists()) and self._answers()


class Watch:
    """Looks after processes from one thread, since the kernel ends a child with the thread that has started it."""

    def __init__(self) -> None:
        self._watched: list[Watched] = []
        self._stop = Event()
        self._thread = Thread(target=self._run, name="watch", daemon=True)
        self._thread.start()

    def add(self, *watched: Watched) -> None:
        """Start processes, and keep them running."""
        self._watched = [*self._watched, *watched]

    def stop(self) -> None:
        """End them all, the youngest first."""
        self._stop.set()
        self._thread.join()
        for one in reversed(self._watched):
            one.send(signal.SIGCONT)
            one.send_all(signal.SIGKILL)
            if one.up:
                one.process.wait(30)

    def _run(self) -> None:
        while not self._stop.wait(_LOOK_S):
            for one in self._watched:
                one.look()
        for one in self._watched:
            one.held = True
