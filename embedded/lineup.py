"""The line-up: which server of each node is the primary, and which are out of it until they are brought back.

It is kept in the data directory. Whoever promotes a server writes it before anything else, and the supervisor, which
starts and stops the servers, obeys it: a former primary is never started beside its successor.
"""

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace

from memlane.embedded.folder import Folder

_FILE = "lineup.json"


@dataclass(frozen=True, slots=True)
class Lineup:
    """The servers of one node.

    Attributes:
        primary: the one that takes what is written.
        out: those that must not run: former primaries, whose history may differ from that of the others.
    """

    primary: str
    out: tuple[str, ...] = ()

    def promoting(self, server: str) -> "Lineup":
        """With another primary; the former is out."""
        if server == self.primary:
            return self
        return replace(self.stopping(), primary=server).with_back(server)

    def stopping(self) -> "Lineup":
        """With its primary out, which has no successor yet."""
        return replace(self, out=tuple(sorted({*self.out, self.primary})))

    def settled(self) -> "Lineup":
        """As a stack begins: a primary that was to be stopped, and had no successor yet, is the primary."""
        return self.with_back(self.primary)

    def with_back(self, server: str) -> "Lineup":
        """With a server that follows again."""
        return replace(self, out=tuple(name for name in self.out if name != server))


@contextmanager
def alone(folder: Folder) -> Iterator[None]:
    """Change line-ups alone: whoever else wants to waits."""
    descriptor = os.open(folder.path / "lineup.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def read(folder: Folder) -> Mapping[str, Lineup]:
    """The line-up of each node that ever had another primary than its first."""
    return {node: Lineup(found["primary"], tuple(found["out"])) for node, found in (folder.read(_FILE) or {}).items()}


def keep(folder: Folder, node: str, lineup: Lineup) -> None:
    """Write the line-up of a node."""
    known = {name: asdict(found) for name, found in read(folder).items()}
    folder.write(_FILE, {**known, node: asdict(lineup)})


def changed_at(folder: Folder) -> float:
    """When it was written last, as a file's time; 0 if never."""
    try:
        return (folder.path / _FILE).stat().st_mtime_ns / 1e9
    except FileNotFoundError:
        return 0.0
