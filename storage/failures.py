"""What the driver raises, translated at the edge of storage into our own errors.

A driver's message may quote the row that it failed on. Only the SQLSTATE goes on from here.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg_pool import PoolClosed, PoolTimeout, TooManyRequests

from memlane.errors import MemlaneError, Misconfigured, NodeDown, NotMigrated, ServerError, ShardMoved, Unavailable

SHARD_MOVED = "ML001"
"""SQLSTATE that the fence raises."""

_BUSY = ("40001", "40P01", "55P03", "57014", "25P03")
"""Serialisation failure, deadlock, lock not available, statement timeout, a transaction in which we idled for too long:
nothing was done, try again."""

_DOWN = ("08", "53", "57P", "58", "25006")
"""Connection lost, resources used up, shutting down, trouble with its disk, became a standby."""

_LOST = (psycopg.OperationalError, psycopg.InterfaceError, PoolTimeout, PoolClosed, TooManyRequests)
"""What is raised without an SQLSTATE where there is no connection."""

_REFUSED = {
    "42704": "a name in the settings, like that of the text search, is unknown there",
    "42501": "a right is missing",
}
"""What an operator has to set right."""

_MISSING = ("3F000", "42P01", "42883", "42703")
"""No such schema, table, function, column."""


_REASONS = (
    ("certificate verify failed", "its certificate is not from an authority that is trusted here"),
    ("does not match host name", "its certificate is for another host"),
    ("hostname mismatch", "its certificate is for another host"),
    ("ip address mismatch", "its certificate is for another host"),
    ("root certificate file", "the file that sslrootcert names is not there"),
    ("does not support ssl", "it does not speak TLS"),
    ("password authentication failed", "it refuses the user or the password"),
    ("no password supplied", "it wants a password"),
    ("username-password", "it refuses the user or the password"),
    ("authentication required", "it wants a password"),
    ("access_refused", "it refuses the user or the password"),
    ("pg_hba.conf", "it lets nobody in from here (pg_hba.conf)"),
    ("failed to resolve", "its host name is not known"),
    ("could not translate host name", "its host name is not known"),
    ("name or service not known", "its host name is not known"),
    ("connection refused", "nothing listens there"),
    ("too many", "it has no connection left"),
    ("connection slots", "it has no connection left"),
    ("timeout", "no answer in time"),
    ("ssl error", "TLS with it does not come about"),
    ("[ssl", "TLS with it does not come about"),
    ("negotiated via direct ssl", "TLS with it does not come about"),
)
"""What drivers say when there is no connection, in lower case, and what we say. The first that fits counts: a
certificate's error also says that a connection failed."""


def reason_of(error: BaseException) -> str | None:
    """Why there is no connection, in words that quote neither an address nor a secret; None if it is not known."""
    said = str(error).lower()
    if 'database "' in said and "does not exist" in said:
        return "there is no such database"
    return next((words for pattern, words in _REASONS if pattern in said), None)


def no_answer(node: str, why: str | None) -> NodeDown:
    """The error for a node without a connection."""
    return NodeDown(f"node {node} does not answer" + (f": {why}" if why else ""))


def translate(error: Exception, node: str) -> MemlaneError:
    """Our error for a driver's error on this node."""
    code = getattr(error, "sqlstate", None) or ""
    if code == SHARD_MOVED:
        return ShardMoved(f"a shard is no longer on node {node}")
    if code.startswith(_DOWN) or (isinstance(error, _LOST) and not code):
        return no_answer(node, f"SQLSTATE {code}" if code else reason_of(error))
    if code in _BUSY:
        return Unavailable(f"node {node} is busy (SQLSTATE {code})")
    if code in _MISSING:
        return NotMigrated(f"node {node} lacks a part of the schema (SQLSTATE {code}): run `memlane migrate`")
    if code in _REFUSED:
        return Misconfigured(f"node {node} refused a statement: {_REFUSED[code]} (SQLSTATE {code})")
    return ServerError(f"node {node} refused a statement (SQLSTATE {code or 'none'}, {type(error).__name__})")


@contextmanager
def translated(node: str) -> Iterator[None]:
    """Raise our errors in place of the driver's."""
    try:
        yield
    except (psycopg.Error, PoolTimeout, PoolClosed, TooManyRequests) as error:
        raise translate(error, node) from None
