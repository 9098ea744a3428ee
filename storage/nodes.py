"""A node: one Postgres server (a primary, with its standbys) and this process's connections to it.

A node that hangs must not hold up the others. So each has its own pool, a connection is waited for
only briefly, and after a failure calls are refused at once for a moment instead of queueing up.
"""

import select
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from time import monotonic
from typing import Any, Self, TypeAlias, TypeVar

from psycopg import Connection, OperationalError, ProgrammingError
from psycopg.abc import PQGen
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import TransactionStatus
from psycopg.types import TypeInfo
from psycopg_pool import ConnectionPool, PoolTimeout

from memlane.config.settings import Settings
from memlane.errors import Misconfigured, NodeDown
from memlane.storage.failures import no_answer, reason_of, translated
from memlane.storage.halfvec import register_vectors

Row: TypeAlias = tuple[Any, ...]
Params: TypeAlias = Mapping[str, Any]
T = TypeVar("T")

UNHURRIED = "memlane unhurried"
"""The application name of sessions whose statements may take long, and which the sweep leaves alone."""

REFUSE_S = 0.5
"""How long calls are refused after a failure, in seconds; longer where it took long to be seen."""

_REFUSE_LONGEST_S = 3.0
"""How long calls are refused after a failure that took long to be seen, in seconds."""

_HURRY = 30
"""How many times as long as a call in a hurry has waited in vain the next ones are refused, which costs them 3 % of
their time."""

_LOOK_S = 1.0
"""How long a node that failed is waited for when it is asked whether it lives."""

_GRACE_S = 2.0
"""How much longer than a statement may take we wait for the server to say so."""

_INTERVAL_S = 0.1
"""How often a wait looks whether it was interrupted; psycopg's own default."""

_KEEPALIVE = {
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 5000,
}
"""libpq: a silent connection is probed after 5 s and given up after about 11 s, unacknowledged data after 5 s."""


class PatientConnection(Connection[Row]):
    """A connection that gives a server up which does not answer at all.

    A server that is stopped, not gone, still acknowledges what it is sent: no keepalive notices, and
    `statement_timeout` is the server's own.
    """

    patience_s: float = 5.0
    """How long each answer is waited for; this is while the pool sets a connection up."""

    @classmethod
    def connect(cls, conninfo: str = "", *, note: Callable[[str | None], None], **options: Any) -> Self:  # type: ignore[override]
        """As psycopg's own; notes why there is no connection, which the pool keeps to itself."""
        try:
            made = super().connect(conninfo, **options)
        except OperationalError as error:
            note(reason_of(error))
            raise
        note(None)
        return made

    def wait(self, gen: PQGen[T], interval: float = _INTERVAL_S, timeout: float | None = None) -> T:
        """As psycopg's own, but not for ever; what has timed out is of no more use."""
        try:
            return super().wait(gen, interval, self.patience_s if timeout is None else timeout)
        except OperationalError:
            if timeout is None and self.pgconn.transaction_status == TransactionStatus.ACTIVE:
                self.pgconn.finish()
            raise


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


class Node:
    """One Postgres server, by the name that the shard map uses.

    Open it after the fork: a pool owns threads and sockets.
    """

    def __init__(self, name: str, uri: str, settings: Settings, role: str, pool_size: int) -> None:
        self.name = name
        self._refused_until = 0.0
        self._impatient_until = 0.0
        self._suspect = False
        self._why: str | None = None
        self._patience_s = settings.statement_timeout_s + _GRACE_S
        self._pool: ConnectionPool[PatientConnection] = ConnectionPool(
            uri,
            connection_class=PatientConnection,
            kwargs={**_connection_options(name, uri, settings, role), "note": self._note_connection},
            min_size=0,
            max_size=pool_size,
            timeout=settings.pool_wait_s,
            open=False,
            name=name,
            configure=_configure,
            # Give up soon: the next call then connects at once instead of waiting for a back-off.
            reconnect_timeout=1.0,
            num_workers=1,
        )

    def open(self) -> None:
        """Start connecting, in the background."""
        self._pool.open(wait=False)

    def close(self) -> None:
        """Close all connections."""
        self._pool.close(timeout=2.0)

    def run(self, query: bytes, params: Params | None = None, patience_s: float | None = None) -> list[Row]:
        """Run one statement in a transaction of its own and return its rows.

        Args:
            query: the statement.
            params: its values.
            patience_s: how long the node is waited for, if not as long as a statement may take.

        Raises:
            NodeDown: the node does not answer; whether the statement took effect is unknown.
            ShardMoved: the fence refused.
            Unavailable: a deadlock or time-out; nothing was done.
        """
        with self.connection(patience_s) as connection:
            cursor = connection.execute(query, params, prepare=True, binary=True)
            return cursor.fetchall() if cursor.description else []

    @contextmanager
    def connection(self, patience_s: float | None = None) -> Iterator[PatientConnection]:
        """A connection in autocommit mode; driver errors come out as ours.

        Args:
            patience_s: how long each answer is waited for, if not as long as a statement may take.

        Raises:
            NodeDown: there is none to be had.
        """
        begun = monotonic()
        if begun < (self._refused_until if patience_s is None else self._impatient_until):
            raise no_answer(self.name, self._why)
        try:
            with translated(self.name):
                connection = self._live_connection(patience_s)
                try:
                    self._look(connection)
                    connection.patience_s = patience_s or self._patience_s
                    yield connection
                    self._impatient_until = 0.0
                finally:
                    self._pool.putconn(connection)
        except NodeDown:
            self._note_failure(patience_s, monotonic() - begun)
            raise

    def _note_connection(self, why: str | None) -> None:
        """A connection was made, or why not."""
        self._why = why

    def _look(self, connection: PatientConnection) -> None:
        """After a failure ask something small first, so that a node that hangs costs seconds, not a whole patience."""
        if self._suspect:
            connection.patience_s = _LOOK_S
            connection.execute("SELECT 1")
            self._suspect = False

    def _note_failure(self, patience_s: float | None, took_s: float) -> None:
        """Refuse calls for a moment: as long as it took to find out, within bounds.

        A node that was too slow for somebody in a hurry is not down for the others. Whoever is in a hurry can do
        without it, and is refused until it has answered somebody else, or for a long while.
        """
        now = monotonic()
        self._impatient_until = max(self._impatient_until, now + max(_HURRY * took_s, REFUSE_S))
        if patience_s is None:
            self._suspect = True
            self._refused_until = now + min(max(took_s, REFUSE_S), _REFUSE_LONGEST_S)

    def _live_connection(self, patience_s: float | None) -> PatientConnection:
        """A connection that the server has not closed while it lay in the pool; costs no round trip."""
        while True:
            try:
                connection = self._pool.getconn(patience_s)
            except PoolTimeout:
                raise no_answer(self.name, self._why) from None
            if not _closed_by_server(connection):
                return connection
            connection.close()
            self._pool.putconn(connection)


def _closed_by_server(connection: Connection[Row]) -> bool:
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


def _connection_options(name: str, uri: str, settings: Settings, role: str) -> dict[str, Any]:
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


def where_to_write(name: str, uri: str) -> dict[str, str]:
    """Libpq's parameters that find the primary among several hosts."""
    several = "," in str(parameters_of(name, uri).get("host", ""))
    return {"target_session_attrs": "read-write"} if several else {}


def _configure(connection: Connection[Row]) -> None:
    connection.prepared_max = 2000
    halfvec = TypeInfo.fetch(connection, "halfvec")
    if halfvec is not None:  # null while the extension is not there yet: migrating
        register_vectors(connection, halfvec)
