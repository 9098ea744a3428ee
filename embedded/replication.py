"""Standbys: made from a primary, brought back, promoted; and who has to confirm what is written."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep

import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.sql import SQL, Identifier, Literal

from memlane.embedded.group import STANDBY, Group
from memlane.embedded.postgres import SUPERUSER, Postgres
from memlane.embedded.user import give, server_user
from memlane.errors import Misconfigured
from memlane.storage.connections import PatientConnection
from memlane.storage.members import POSITION, Position

_MARK = "standby.signal"

_PATIENCE_S = 5.0
"""How long an answer is waited for: a server that stands still must not hold up who looks after the others."""

_PROMOTED_S = 30
"""How long a promotion may take."""


def _connected(server: Postgres, patience_s: float = _PATIENCE_S) -> PatientConnection:
    connection = PatientConnection.connect(
        make_conninfo(server.uri("postgres"), connect_timeout=2), autocommit=True, note=lambda _: None
    )
    connection.patience_s = patience_s
    return connection


def let_standbys_in(primary: Postgres, password: str) -> None:
    """Make the role that standbys log in with; the server is sent only the hash of its password."""
    role = Identifier(STANDBY)
    with _connected(primary) as connection:
        known = connection.execute("SELECT FROM pg_roles WHERE rolname = %s", (STANDBY,)).fetchone()
        if known is None:
            connection.execute(SQL("CREATE ROLE {} REPLICATION LOGIN").format(role))
        kept = connection.pgconn.encrypt_password(password.encode(), STANDBY.encode(), b"scram-sha-256")
        connection.execute(SQL("ALTER ROLE {} PASSWORD {}").format(role, Literal(kept.decode())))


def clone(server: Postgres, primary: Postgres, password: str) -> None:
    """Make a server anew as a standby: a copy of the primary as it is now.

    Raises:
        Misconfigured: the copy failed.
    """
    server.prepare_folder()
    copy, replaced = server.folder / "copy", server.folder / "replaced"
    for left in (copy, replaced):
        shutil.rmtree(left, ignore_errors=True)  # by one that broke off
    source = make_conninfo(host="127.0.0.1", port=primary.port, user=STANDBY)
    arguments = ["-D", str(copy), "-d", source, "--wal-method=stream", "--checkpoint=fast", "--no-password"]
    server.run_program("pg_basebackup", *arguments, env={"PGPASSWORD": password})
    _mark(copy)
    if server.data.exists():
        server.data.rename(replaced)
    copy.rename(server.data)  # whole, or not at all
    server.write_settings()
    shutil.rmtree(replaced, ignore_errors=True)


def follow(server: Postgres) -> None:
    """Let a server that does not run be a standby from its next start."""
    _mark(server.data)
    server.write_settings()


def _mark(data: Path) -> None:
    mark = data / _MARK
    mark.touch(mode=0o600)
    give(mark, server_user())


def is_standby(server: Postgres) -> bool:
    """Whether a server will follow when it starts."""
    return (server.data / _MARK).exists()


def rewind(server: Postgres, primary: Postgres) -> None:
    """Take back what a former primary, which does not run, has written and no other has, and let it follow.

    Raises:
        Misconfigured: that is not possible; it has to be made anew.
    """
    source = make_conninfo(host="127.0.0.1", port=primary.port, user=SUPERUSER, dbname="postgres")
    arguments = ["--target-pgdata", str(server.data), "--source-server", source]
    server.run_program("pg_rewind", *arguments, env={"PGPASSWORD": primary.password})
    follow(server)


def follows(server: Postgres) -> bool:
    """Whether a server that answers is a standby."""
    with _connected(server) as connection:
        return connection.execute("SELECT pg_is_in_recovery()").fetchone() == (True,)


def promote(server: Postgres) -> None:
    """Make a standby the primary.

    Raises:
        Misconfigured: it does not become one.
    """
    with _connected(server, 2 * _PROMOTED_S) as connection:
        done = connection.execute("SELECT pg_promote(true, %s)", (_PROMOTED_S,)).fetchone()
    if done != (True,):
        raise Misconfigured(f"{server.name} was not promoted within {_PROMOTED_S} s; see its log")


def received(server: Postgres) -> int | None:
    """How much of the log a standby has, in bytes; None if it does not answer, or does not know it yet.

    It does not until it has read what it has itself, and asks a primary for more.
    """
    try:
        with _connected(server) as connection:
            row = connection.execute(POSITION).fetchone()
    except psycopg.OperationalError:
        return None
    at = None if row is None else Position(*row)
    return at.received if at is not None and at.follows else None


def wait_until_read(server: Postgres, timeout_s: float = 60.0) -> int:
    """Wait until a standby has read all of the log that it has; how much that is, in bytes.

    Raises:
        Misconfigured: it takes too long; its log says why.
    """
    deadline = monotonic() + timeout_s
    while (at := received(server)) is None:
        if monotonic() > deadline:
            raise Misconfigured(f"{server.name} has not read its log after {timeout_s:.0f} s; see what it logs")
        sleep(0.05)
    return at


@dataclass(frozen=True, slots=True)
class Seen:
    """What a primary says of its standbys: who follows it, by name, and who has to confirm what is written."""

    following: frozenset[str]
    confirmed_by: str


def seen(primary: Postgres) -> Seen:
    """Ask a primary for its standbys."""
    standbys = (
        "SELECT current_setting('synchronous_standby_names'), "
        "array(SELECT application_name FROM pg_stat_replication WHERE state = 'streaming')"
    )
    with _connected(primary) as connection:
        ((names, following),) = connection.execute(standbys).fetchall()
    return Seen(frozenset(following), names)


def wait_until_streaming(group: Group, server: Postgres, timeout_s: float = 60.0) -> None:
    """Wait until a standby follows.

    Raises:
        Misconfigured: it does not; its log says why.
    """
    deadline = monotonic() + timeout_s
    while server.name not in seen(group.primary).following:
        if monotonic() > deadline:
            raise Misconfigured(
                f"{server.name} does not follow {group.primary.name} after {timeout_s:.0f} s; see its log"
            )
        sleep(0.05)


def confirm_by(primary: Postgres, names: str) -> None:
    """Say which standbys have to confirm what is written from now on; commits that wait take notice."""
    setting: Mapping[str, str] = {"synchronous_standby_names": f"'{names}'"}
    primary.write_settings(setting)
    with _connected(primary) as connection:
        connection.execute("SELECT pg_reload_conf()")
