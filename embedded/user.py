"""The unprivileged user: Postgres refuses to run as root, so root runs it as somebody else."""

import os
import pwd
import stat
from pathlib import Path

from memlane.errors import Misconfigured

_CANDIDATES = ("postgres", "nobody")


def server_user() -> str | None:
    """The user for servers: None for our own, or somebody unprivileged when we are root.

    Raises:
        Misconfigured: we are root and there is nobody to be.
    """
    if os.geteuid() != 0:
        return None
    for name in _CANDIDATES:
        try:
            pwd.getpwnam(name)
        except KeyError:
            continue
        return name
    raise Misconfigured(f"Postgres does not run as root, and there is no user {' or '.join(_CANDIDATES)}")


def give(path: Path, user: str | None) -> None:
    """Make a path belong to the server's user."""
    if user is not None:
        entry = pwd.getpwnam(user)
        os.chown(path, entry.pw_uid, entry.pw_gid)


def closed_to(path: Path, user: str | None) -> Path | None:
    """The first folder on the way to a path that the server's user may not enter, or None."""
    if user is None:
        return None
    entry = pwd.getpwnam(user)
    for folder in reversed([path, *path.parents]):
        if not folder.exists():
            return None
        mode = folder.stat()
        owned = mode.st_uid == entry.pw_uid and mode.st_mode & stat.S_IXUSR
        grouped = mode.st_gid == entry.pw_gid and mode.st_mode & stat.S_IXGRP
        if not (owned or grouped or mode.st_mode & stat.S_IXOTH):
            return folder
    return None
