"""Connections to Postgres: their address, their session's settings, and their patience with a server that hangs."""

import select
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Self, TypeAlias, TypeVar

from psycopg import Connection, OperationalError, ProgrammingError
from psycopg.abc import PQGen
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.errors import Diagnostic
from psycopg.pq import TransactionStatus
from psycopg.types import TypeInfo
from psycopg.types.json import set_json_loads
from pydantic_core import from_json

from memlane.config.settings import Settings
from memlane.errors import Misconfigured
from memlane.storage.failures import reason_of, translated
from memlane.storage.halfvec import register_vectors

Row: TypeAlias = tuple[Any, ...]
T = TypeVar("T")

UNHURRIED = "memlane unhurried"
"""The application name of sessions whose statements may take long, and which the sweep leaves alone."""

_INTERVAL_S = 0.1
"""How often a wait looks whether it was interrupted; psycopg's own default."""

_KEEPALIVE = {
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 5000,
}
"""libpq: a silent connection is probed after 5 s and given up after about 11 s, unacknowledged data after 5 s."""

_GIVEN_UP = "SyncRepWaitForLSN"
"""The function in Postgres' source that warns when it gives up waiting for a standby, whatever its language."""


class PatientConnection(Connection[Row]):
    """A connection that gives a server up which does not answer at all, and that takes no commit for more than it is.

    A server that is stopped, not gone, still acknowledges what it is sent: no keepalive notices, and
    `statement_timeout` is the server's own.
    """

    patience_s: float = 5.0
    """How long each answer is waited for; this is while the pool sets a connection up."""

    unconfirmed: bool = False
    """Whether a commit was answered although its standbys had not confirmed it: somebody has cancelled the wait."""

    @classmethod
    def connect(cls, conninfo: str = "", *, note: Callable[[str | None], None], **options: Any) -> Self:  # type: ignore[override]
        """As psycopg's own; notes why there is no connection, which the pool keeps to itself."""
        try:
            made = super().connect(conninfo, **options)
        except OperationalError as error:
            note(reason_of(error))
            raise
        note(None)
        made.add_notice_handler(made.take_notice)
        return made

    def wait(self, gen: PQGen[T], interval: float = _INTERVAL_S, timeout: float | None = None) -> T:
        """As psycopg's own, but not for ever; what has timed out is of no more use."""
        try:
            return super().wait(gen, interval, self.patience_s if timeout is None else timeout)
        except OperationalError:
            if timeout is None and self.pgconn.transaction_status == TransactionStatus.ACTIVE:
                self.pgconn.finish()
            raise

    def take_notice(self, said: Diagnostic) -> None:
        """What the server says beside its answers."""
        if said.source_function == _GIVEN_UP:
            self.unconfirmed = True


@contextmanager
def unhurried_connection(settings: Settings, node: str) -> Iterator[Connection[Row]]:
    """A connection beside any pool, whose statements may take long; driver errors come out as ours.

    Raises:
        Misconfigured: the settings do not name the node.
        NodeDown: it does not answer.
    """
    if node not in settings.nodes:
        raise Misconfigured(f"the cluster has shards on node {node}, which is not in MEMLANE_NODES")
    with (
        translated(node),
        Connection.connect(
            settings.nodes[node].get_secret_value(),
            autocommit=True,
            connect_timeout=settings.connect_timeout_s,
            application_name=UNHURRIED,
            **where_to_write(node, settings.nodes[node].get_secret_value()),  # type: ignore[arg-type]  # libpq's
        ) as connection,
    ):
        yield connection


def closed_by_server(connection: Connection[Row]) -> bool:
    """Whether something waits to be read on an idle connection: then it is its end."""
    if connection.closed:
        return True
    poll = select.poll()
    poll.register(connection.pgconn.socket, select.POLLIN)
    if not poll.poll(0):
        return False
    try:
        connection.pgconn.consume_input()
    except OperationalError:
        return True
    return bool(poll.poll(0))


def check_nodes(settings: Settings) -> None:
    """See whether the addresses of the nodes can be read; asks none of them.

    Raises:
        Misconfigured: one cannot, or there is none.
    """
    _ = settings.control
    for name, uri in settings.nodes.items():
        parameters_of(name, uri.get_secret_value())


def parameters_of(name: str, uri: str) -> Mapping[str, Any]:
    """What a node's address says, as libpq reads it.

    Raises:
        Misconfigured: it cannot. libpq's own words would quote it.
    """
    try:
        return conninfo_to_dict(uri)
    except ProgrammingError:
        raise Misconfigured(
            f"the address of node {name} in MEMLANE_NODES cannot be read: postgresql://user:password@host/database, "
            "where / ? # @ : % in a password are written as %2F %3F %23 %40 %3A %25"
        ) from None


def connection_options(name: str, uri: str, settings: Settings, role: str) -> dict[str, Any]:
    """How the processes of a role connect to a node, and the settings of their sessions."""
    timeout_ms = int(settings.statement_timeout_s * 1000)
    session = {
        "statement_timeout": timeout_ms,
        "lock_timeout": timeout_ms // 2,
        "idle_in_transaction_session_timeout": timeout_ms,
        "timezone": "UTC",  # in another zone a time of year 1 would lie before what Python knows
        # Plans are made once per statement and connection, and always go by an index: measured on 2
        # cores, ingest 1,970 memories/s with custom plans and 2,650 with generic ones; a recall that
        # scanned the table 12.5 ms, by the index 3.8 ms.
        "plan_cache_mode": "force_generic_plan",
        "enable_seqscan": "off",
        "jit": "off",
    }
    options: dict[str, Any] = {
        **_KEEPALIVE,
        "autocommit": True,
        "connect_timeout": settings.connect_timeout_s,
        "application_name": f"memlane {role}",
        "options": " ".join(f"-c {name}={value}" for name, value in session.items()),
    }
    return {**options, **where_to_write(name, uri)}


def hosts_of(name: str, uri: str) -> list[str]:
    """The address of each server of a node, one by one; empty where there is but one.

    Raises:
        Misconfigured: the address cannot be read.
    """
    found = parameters_of(name, uri)
    hosts = str(found.get("host", "")).split(",")
    if len(hosts) == 1:
        return []
    ports = str(found.get("port", "")).split(",")
    ports = ports * len(hosts) if len(ports) == 1 else ports
    return [make_conninfo(uri, host=host, port=port or None) for host, port in zip(hosts, ports, strict=True)]


def where_to_write(name: str, uri: str) -> dict[str, str]:
    """Libpq's parameters that find the primary among several hosts."""
    return {"target_session_attrs": "read-write"} if hosts_of(name, uri) else {}


def configure(connection: Connection[Row]) -> None:
    """Teach a new connection our types."""
    connection.prepared_max = 2000
    set_json_loads(from_json, connection)  # of a page of a thousand memories the standard library's took half the time
    halfvec = TypeInfo.fetch(connection, "halfvec")
    if halfvec is not None:  # null while the extension is not there yet: migrating
        register_vectors(connection, halfvec)
