"""The data directory of an embedded stack: what is in it, and who may use it now."""

import fcntl
import json
import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from platformdirs import user_data_path

from memlane.embedded.user import closed_to, server_user
from memlane.errors import Misconfigured
from memlane.storage.tenants import new_key


def default_folder() -> Path:
    """Where a stack lives unless told otherwise.

    MEMLANE_DATA if set; else in the user's data directory; for root, whose home others may not enter,
    /var/lib/memlane.
    """
    if given := os.environ.get("MEMLANE_DATA"):
        return Path(given).absolute()
    home = user_data_path("memlane")
    user = server_user()
    reachable = closed_to(home.parent if not home.exists() else home, user) is None and _parents_open(home, user)
    return home if reachable else Path("/var/lib/memlane")


def _parents_open(path: Path, user: str | None) -> bool:
    existing = next(parent for parent in path.parents if parent.exists())
    return closed_to(existing, user) is None


class Replication(StrEnum):
    """What happens when fewer standbys of a node live than have to confirm what is written."""

    DURABILITY = "durability"
    """What is written waits for them, and accepts are answered with 503 meanwhile."""
    AVAILABILITY = "availability"
    """It goes on without them, with an alarm: what is confirmed then is on one disk."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What a stack was created as; kept, so that the next start finds it again."""

    nodes: int
    shards: int
    workers: int
    embedder: str
    standbys: int = 0
    """Of each node."""
    replication: str = Replication.DURABILITY.value


@dataclass(frozen=True, slots=True)
class Secrets:
    """Passwords and keys of a stack, made once; `postgres` is the superuser's, the three after it are roles'."""

    postgres: str
    postgres_gateway: str
    postgres_worker: str
    postgres_standby: str
    redis: str
    tenant_key: str
    admin_key: str
    flower: str


def _password() -> str:
    return secrets.token_urlsafe(24)


_MAKE: Mapping[str, Callable[[], str]] = {
    "postgres": _password,
    "postgres_gateway": _password,
    "postgres_worker": _password,
    "postgres_standby": _password,
    "redis": _password,
    "tenant_key": new_key,
    "admin_key": new_key,
    "flower": _password,
}
"""How each secret is made."""


@dataclass(frozen=True, slots=True)
class ProcessState:
    """One process of a running stack."""

    name: str
    pid: int
    up: bool
    restarts: int


@dataclass(frozen=True, slots=True)
class StackState:
    """A stack as its supervisor sees it."""

    pid: int
    ready: bool
    url: str
    nodes: dict[str, str]
    redis: str
    flower: str = ""
    """Flower's URL; none in the state of an older version."""
    processes: list[ProcessState] = field(default_factory=list)


_HALF_MADE = "half-made"


class Folder:
    """A data directory."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.logs = self.path / "logs"
        self.run = self.path / "run"

    def prepare(self) -> None:
        """Make the directory.

        Raises:
            Misconfigured: it cannot be made here.
        """
        try:
            for folder in (self.path, self.logs, self.run):
                folder.mkdir(parents=True, exist_ok=True)
            self.path.chmod(0o711)  # the servers' user has to pass through
            self.logs.chmod(0o700)
        except OSError as error:
            raise Misconfigured(f"the data directory {self.path} cannot be made: {error.strerror}") from None

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Use the directory alone; the kernel lets go of it with the process, however that ends.

        Raises:
            Misconfigured: somebody uses it.
        """
        descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise self.occupied() from None
            yield
        finally:
            os.close(descriptor)

    def occupied(self) -> Misconfigured:
        """What to say to a second one."""
        state = self.state()
        where = f" at {state.url} (process {state.pid})" if state else ""
        return Misconfigured(f"a stack runs in {self.path} already{where}: `memlane down --data {self.path}` stops it")

    def in_use(self) -> bool:
        """Whether a supervisor uses it."""
        if not (self.path / "lock").exists():
            return False
        try:
            with self.locked():
                return False
        except Misconfigured:
            return True

    @contextmanager
    def half_made(self) -> Iterator[None]:
        """Mark the directory as half made, until the block ends well."""
        mark = self.path / _HALF_MADE
        mark.touch()
        yield
        mark.unlink()

    def check_whole(self) -> None:
        """Refuse a directory in which something broke off.

        Raises:
            Misconfigured: it did.
        """
        if (self.path / _HALF_MADE).exists():
            raise Misconfigured(f"a restore into {self.path} broke off: remove the directory, and restore again")

    def shape(self) -> Shape | None:
        """What the stack was created as."""
        found = self.read("shape.json")
        return Shape(**found) if found else None

    def keep_shape(self, shape: Shape) -> None:
        """Remember what the stack was created as."""
        self.write("shape.json", asdict(shape))

    def secrets(self) -> Secrets:
        """The stack's secrets; made on first use, and what an older version did not have is added."""
        found = self.read("secrets.json") or {}
        missing = {name: make() for name, make in _MAKE.items() if name not in found}
        if missing:
            self.write("secrets.json", {**found, **missing})
        known = {**found, **missing}
        return Secrets(**{name: known[name] for name in _MAKE})

    def state(self) -> StackState | None:
        """The stack that runs here, or ran here last."""
        found = self.read("state.json")
        if not found:
            return None
        return StackState(**{**found, "processes": [ProcessState(**p) for p in found["processes"]]})

    def running(self) -> StackState | None:
        """The stack that runs here; None if none does, or is only just beginning."""
        state = self.state()
        return state if state is not None and self.in_use() else None

    def keep_state(self, state: StackState) -> None:
        """Tell others what runs here."""
        self.write("state.json", asdict(state))

    def drop_state(self) -> None:
        """Nothing runs here any more."""
        (self.path / "state.json").unlink(missing_ok=True)

    def read(self, name: str) -> dict[str, Any] | None:
        """What a JSON file here says; None if it is not there.

        Raises:
            Misconfigured: it cannot be read.
        """
        try:
            found: dict[str, Any] = json.loads((self.path / name).read_text())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise Misconfigured(f"{self.path / name} cannot be read: {error}") from None
        return found

    def write(self, name: str, value: dict[str, Any]) -> None:
        """Write whole or not at all; for our eyes only."""
        work = self.path / f".{name}.{os.getpid()}"
        descriptor = os.open(work, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump(value, file, indent=2)
            file.flush()
            os.fsync(file.fileno())
        work.rename(self.path / name)
        directory = os.open(self.path, os.O_RDONLY)
        try:
            os.fsync(directory)  # who is the primary must not be forgotten with the power
        finally:
            os.close(directory)
