"""A node: one Postgres server, or a primary with its standbys, and this process's connections to it.

A node that hangs must not hold up the others. So each has its own pool, a connection is waited for
only briefly, and after a failure calls are refused at once for a moment instead of queueing up.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from time import monotonic
from typing import Any, TypeAlias

from psycopg.conninfo import conninfo_to_dict
from psycopg_pool import ConnectionPool, PoolTimeout

from memlane.config.settings import Settings
from memlane.errors import NodeDown
from memlane.storage.connections import (
    PatientConnection,
    Row,
    closed_by_server,
    configure,
    connection_options,
    hosts_of,
)
from memlane.storage.failures import no_answer, translated
from memlane.storage.refusals import HURRY, Call, Refusals

Params: TypeAlias = Mapping[str, Any]

_LOOK_S = 1.0
"""How long a node that failed is waited for when it is asked whether it lives."""

_FRESH_S = 1.0
"""How long a node that has answered is believed to live."""

_LIVES_S = 2.0
"""How long one that has not answered lately is waited for when it is asked; it may merely have much to do."""

_GRACE_S = 2.0
"""How much longer than a statement may take we wait for the server to say so."""

_CHANGE = re.compile(rb"\b(INSERT INTO|DELETE FROM|UPDATE [a-z_{]+)")

_HURRY = 5
"""As in `Refusals`, for one of several servers: it should be seen soon when it is back."""

_MEMBER_POOL = 2
"""Connections to one of several servers of a node, for looking and for reading while there is no primary."""


class Node:
    """One node, by the name that the shard map uses.

    Open it after the fork: a pool owns threads and sockets.
    """

    def __init__(
        self, name: str, uri: str, settings: Settings, role: str, pool_size: int, hurry: float = HURRY
    ) -> None:
        self.name = name
        self.address = _address(uri)
        uris = hosts_of(name, uri)
        self.members: tuple[Node, ...] = tuple(
            Node(_address(u), u, settings, role, _MEMBER_POOL, hurry=_HURRY) for u in uris
        )
        """The servers behind the name, each by its address; none where there is but this one."""
        self._why: str | None = None
        self._patience_s = settings.statement_timeout_s + _GRACE_S
        self._refusals = Refusals(self._patience_s, hurry)
        self._answered_at = 0.0
        self._steady_since = monotonic()
        self._pool: ConnectionPool[PatientConnection] = ConnectionPool(
            uri,
            connection_class=PatientConnection,
            kwargs={**connection_options(name, uri, settings, role), "note": self._note_connection},
            min_size=0,
            max_size=pool_size,
            timeout=settings.pool_wait_s,
            open=False,
            name=name,
            configure=configure,
            # Give up soon: the next call then connects at once instead of waiting for a back-off.
            reconnect_timeout=1.0,
            num_workers=1,
        )

    @property
    def suspect(self) -> bool:
        """Whether it has failed since it was last seen to answer."""
        return self._refusals.suspect

    @property
    def steady_s(self) -> float:
        """For how long it has not failed here, in seconds; not longer than it is open."""
        return monotonic() - self._steady_since

    def pool_stats(self) -> Mapping[str, int]:
        """How the connections are: psycopg_pool's own counts, those that only grow since it was opened."""
        return self._pool.get_stats()

    def open(self) -> None:
        """Start connecting, in the background."""
        self._steady_since = monotonic()
        self._pool.open(wait=False)
        for member in self.members:
            member.open()

    def close(self) -> None:
        """Close all connections."""
        self._pool.close(timeout=2.0)
        for member in self.members:
            member.close()

    def run(
        self,
        query: bytes,
        params: Params | None = None,
        patience_s: float | None = None,
        *,
        writes: bool | None = None,
    ) -> list[Row]:
        """Run one statement in a transaction of its own and return its rows.

        Args:
            query: the statement.
            params: its values.
            patience_s: how long the node is waited for, if not as long as a statement may take.
            writes: whether it changes rows, where its text does not tell since it only calls a function that does.

        Raises:
            NodeDown: the node does not answer, or no standby confirms; whether the statement took effect is unknown.
            ShardMoved: the fence refused.
            Unavailable: a deadlock or time-out; nothing was done.
        """
        with self.connection(patience_s, writes=_writes(query) if writes is None else writes) as connection:
            cursor = connection.execute(query, params, prepare=True, binary=True)
            return cursor.fetchall() if cursor.description else []

    def run_all(
        self, statements: Sequence[tuple[bytes, Params | None]], patience_s: float | None = None
    ) -> list[list[Row]]:
        """Run statements in one transaction and one round trip, and return the rows of each; raises as `run` does."""
        writes = any(_writes(query) for query, _ in statements)
        with self.connection(patience_s, writes=writes) as connection:
            with connection.pipeline():  # which is a transaction, since the connection commits by itself
                cursors = [connection.execute(query, of, prepare=True, binary=True) for query, of in statements]
            return [cursor.fetchall() if cursor.description else [] for cursor in cursors]

    @contextmanager
    def connection(self, patience_s: float | None = None, *, writes: bool = False) -> Iterator[PatientConnection]:
        """A connection in autocommit mode; driver errors come out as ours.

        Args:
            patience_s: how long each answer is waited for, if not as long as a statement may take.
            writes: whether something will be committed, which waits for the standbys where there are any.

        Raises:
            NodeDown: there is none to be had, or no standby has confirmed what was committed.
        """
        begun = monotonic()
        call = Call(writes, patience_s)
        if self._refusals.refuses(call):
            raise no_answer(self.name, self._why)
        try:
            with translated(self.name):
                connection = self._live_connection(patience_s)
                try:
                    self._look(connection)
                    connection.patience_s = patience_s or self._patience_s
                    yield connection
                finally:
                    unconfirmed, connection.unconfirmed = connection.unconfirmed, False
                    self._pool.putconn(connection)
            if unconfirmed:  # what was committed here alone is not durable: whoever wrote it has to ask again
                raise no_answer(self.name, "no standby has confirmed what was written")
        except NodeDown:
            self._refusals.failed(call, monotonic() - begun)
            if patience_s is None:  # for others it was merely too slow
                self._steady_since = monotonic()
            raise
        except BaseException:
            self._refusals.undecided(call)
            raise
        self._refusals.succeeded(call)
        self._answered_at = monotonic()

    def _note_connection(self, why: str | None) -> None:
        """A connection was made, or why not."""
        self._why = why

    def _look(self, connection: PatientConnection) -> None:
        """After a failure or a pause ask something small first: a node that hangs costs seconds, no whole patience."""
        if self._refusals.suspect or monotonic() - self._answered_at > _FRESH_S:
            connection.patience_s = _LOOK_S if self._refusals.suspect else _LIVES_S
            connection.execute("SELECT 1")
            self._refusals.answered()

    def _live_connection(self, patience_s: float | None) -> PatientConnection:
        """A connection that the server has not closed while it lay in the pool; costs no round trip."""
        while True:
            try:
                connection = self._pool.getconn(patience_s)
            except PoolTimeout:
                raise no_answer(self.name, self._why) from None
            if not closed_by_server(connection):
                return connection
            connection.close()
            self._pool.putconn(connection)


@lru_cache(maxsize=20_000)
def _writes(query: bytes) -> bool:
    """Whether a statement changes rows."""
    return _CHANGE.search(query) is not None


def _address(uri: str) -> str:
    found = conninfo_to_dict(uri)
    host, port = found.get("host", ""), found.get("port", "")
    return f"{host}:{port}" if port else str(host)
