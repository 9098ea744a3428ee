"""Brokers and workers as local processes, in the shape that pytest-celery's clusters expect of containers."""

import os
import signal
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import celery

from memlane.embedded.process import Command, spawn
from tests.support import eventually


class LocalProcess:
    """What pytest-celery calls a container: something to start, kill, and read the log of."""

    def __init__(self, command: Command, log: Path, ready: Callable[[], bool], config: Mapping[str, Any]) -> None:
        self.command, self.log = command, log
        self.name = self.id = command.name
        self._ready, self._config = ready, dict(config)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> "LocalProcess":
        """Start it, and wait until it is ready."""
        self.process = spawn(self.command, self.log)
        self.ready()
        return self

    @property
    def pid(self) -> int:
        """Of the main process."""
        assert self.process is not None
        return self.process.pid

    @property
    def celeryconfig(self) -> dict[str, Any]:
        return dict(self._config)

    @property
    def status(self) -> str:
        return "running" if self.process is not None and self.process.poll() is None else "exited"

    def reload(self) -> None: ...

    def logs(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def ready(self, timeout_s: float = 60) -> bool:
        """Wait until it is ready."""

        def is_ready() -> bool:
            assert self.status == "running", self.logs()[-3000:]
            return self._ready()

        eventually(is_ready, timeout_s)
        return True

    def kill(self, signal: str | int = signal.SIGKILL, **_: object) -> None:  # pytest-celery's name
        """Send a signal to the main process alone, as the kernel's OOM killer would."""
        number = signal if isinstance(signal, int) else getattr(_signal, signal)
        os.kill(self.pid, number)
        if number == _signal.SIGKILL:
            self.wait()

    def wait(self, timeout_s: float = 30) -> int:
        """Wait until it has ended; its exit code."""
        assert self.process is not None
        return self.process.wait(timeout_s)

    def restart(self, timeout: float = 60, **_: object) -> None:
        """End it in good order if it runs, and start it again."""
        if self.status == "running":
            assert self.process is not None
            self.process.send_signal(self.command.end_signal)
            self.wait(int(timeout))
        self.start()

    def teardown(self) -> None:
        """End it for good, with all that it has started."""
        if self.status == "running":
            os.killpg(self.pid, _signal.SIGKILL)
            self.wait()

    remove = teardown


class WorkerProcess(LocalProcess):
    """A worker, with what pytest-celery asks of one."""

    def version(self) -> str:
        return str(celery.__version__)

    def log_level(self) -> str:
        return "INFO"

    def worker_name(self) -> str:
        return self.name

    def worker_queue(self) -> str:
        return "remember"


_signal = signal
