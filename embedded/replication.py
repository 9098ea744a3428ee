"""Standbys: made from a primary, brought back, promoted; and who has to confirm what is written."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from time import monotonic, sleep

import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.sql import SQL, Identifier, Literal

from memlane.embedded.group import STANDBY, Group
from memlane.embedded.postgres import SUPERUSER, Postgres
from memlane.embedded.user import give, server_user
from memlane.errors import Misconfigured

_MARK = "standby.signal"

_QUIET_S = 1.0
"""A standby without a primary that has carried out nothing more for so long has carried out all it has."""

_PROMOTED_S = 30
"""How long a promotion may take."""


def _connected(server: Postgres) -> "psycopg.Connection[tuple[object, ...]]":
    return psycopg.connect(make_conninfo(server.uri("postgres"), connect_timeout=2), autocommit=True)


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
    with _connected(server) as connection:
        done = connection.execute("SELECT pg_promote(true, %s)", (_PROMOTED_S,)).fetchone()
    if done != (True,):
        raise Misconfigured(f"{server.name} was not promoted within {_PROMOTED_S} s; see its log")


def received(server: Postgres) -> int | None:
    """How much of the log a standby has, in bytes; None if it does not answer."""
    has = "greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn())"
    try:
        with _connected(server) as connection:
            row = connection.execute(f"SELECT pg_wal_lsn_diff({has}, '0/0')::bigint".encode()).fetchone()
    except psycopg.OperationalError:
        return None
    return None if row is None or row[0] is None else int(str(row[0]))


def wait_until_quiet(server: Postgres, timeout_s: float = 60.0) -> None:
    """Wait until a standby without a primary has carried out all that it has."""
    deadline = monotonic() + timeout_s
    before, since = received(server), monotonic()
    while monotonic() - since < _QUIET_S and monotonic() < deadline:
        sleep(0.05)
        if (now := received(server)) != before:
            before, since = now, monotonic()


def streaming(primary: Postgres) -> set[str]:
    """The standbys that follow a primary at this moment, by name."""
    following = "SELECT application_name FROM pg_stat_replication WHERE state = 'streaming'"
    with _connected(primary) as connection:
        return {str(name) for (name,) in connection.execute(following)}


def wait_until_streaming(group: Group, server: Postgres, timeout_s: float = 60.0) -> None:
    """Wait until a standby follows.

    Raises:
        Misconfigured: it does not; its log says why.
    """
    deadline = monotonic() + timeout_s
    while server.name not in streaming(group.primary):
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


def confirmed_by(primary: Postgres) -> str:
    """Which standbys have to confirm what is written now."""
    with _connected(primary) as connection:
        row = connection.execute("SHOW synchronous_standby_names").fetchone()
    return str(row[0]) if row else ""
