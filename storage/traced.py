"""Traced nodes: they note each statement with its time, and can have all that was done undone in the end.

For who wants to know where an operation spends its time: `Lane(..., make_node=trace.node)` has the very functions that
the gateway and the workers run do so on such nodes. No other process pays for that.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from threading import Lock, current_thread, get_ident
from time import perf_counter
from typing import Any, cast

from psycopg import Cursor, Pipeline, Transaction

from memlane.config.settings import Settings
from memlane.storage import plans
from memlane.storage.connections import PatientConnection, Row
from memlane.storage.failures import translated
from memlane.storage.nodes import Node, Params
from memlane.storage.plans import Plan

ASIDE = "aside"
"""What is spent only since all is undone in the end: no part of the operation."""


@dataclass(frozen=True, slots=True)
class Span:
    """What went on between two moments.

    Attributes:
        begun: when it began, in seconds of `perf_counter`.
        ended: when it ended.
        statements: what was executed in it, each statement's text.
        round_trips: how often a server was waited for.
        name: of what was no statement, such as a call to the provider.
        node: where the statements ran.
    """

    begun: float
    ended: float
    statements: tuple[bytes, ...] = ()
    round_trips: int = 0
    name: str = ""
    node: str = ""


@dataclass
class Trace:
    """What traced nodes note. Only statements of the thread that undoes are undone; other threads go on as ever.

    Attributes:
        spans: what was noted, in the order in which it ended.
        plans: the plans of statements, where they are asked for.
        explains: whether each statement's plan is asked for before it is executed.
    """

    spans: list[Span] = field(default_factory=list)
    plans: list[Plan] = field(default_factory=list)
    explains: bool = False
    _undoing: ExitStack | None = None
    _thread: int = 0
    _held: dict[str, PatientConnection] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)

    def node(self, name: str, uri: str, settings: Settings, role: str, pool_size: int) -> "TracedNode":
        """A node that notes its statements here."""
        return TracedNode(self, name, uri, settings, role, pool_size)

    def note(self, span: Span) -> None:
        """Note what went on; what threads do in the background, such as looks, is none of it."""
        if current_thread().daemon:
            return
        with self._lock:
            self.spans.append(span)

    @contextmanager
    def spending(self, name: str) -> Iterator[None]:
        """Note how long a block takes that is no statement."""
        begun = perf_counter()
        try:
            yield
        finally:
            self.note(Span(begun, perf_counter(), name=name))

    def take(self) -> list[Span]:
        """What was noted since the last time."""
        with self._lock:
            taken, self.spans = self.spans, []
            return sorted(taken, key=lambda span: span.begun)

    @contextmanager
    def undone(self) -> Iterator[None]:
        """One transaction on each node for whatever this thread does meanwhile, which is rolled back in the end.

        Nobody else sees any of it. Numbers that were taken from sequences are not given back.
        """
        with ExitStack() as stack:
            self._undoing, self._thread = stack, get_ident()
            try:
                yield
            finally:
                self._undoing = None
                self._held.clear()

    def held(self, node: "TracedNode") -> PatientConnection | None:
        """The connection whose transaction will be rolled back, if this thread undoes what it does."""
        if self._undoing is None or self._thread != get_ident():
            return None
        if node.name not in self._held:
            self._held[node.name] = self._undoing.enter_context(node.rolled_back())
        return self._held[node.name]


class TracedNode(Node):
    """A node whose statements are noted."""

    def __init__(self, trace: Trace, name: str, uri: str, settings: Settings, role: str, pool_size: int) -> None:
        super().__init__(name, uri, settings, role, pool_size)
        self._trace = trace

    @contextmanager
    def connection(self, patience_s: float | None = None, *, writes: bool = False) -> Iterator[PatientConnection]:
        """As any node's, and noted."""
        asked = perf_counter()
        held = self._trace.held(self)
        if held is None:
            with super().connection(patience_s, writes=writes) as connection:
                noting = _Noting(connection, self._trace)
                yield cast(PatientConnection, noting)
            self._note(noting, asked, perf_counter())
            return
        with translated(self.name), held.transaction():  # what fails is undone alone, as it would be
            noting = _Noting(held, self._trace)
            begun = perf_counter()
            yield cast(PatientConnection, noting)
            ended = perf_counter()
        self._trace.note(Span(asked, begun, name=ASIDE))
        self._note(noting, begun, ended)
        self._trace.note(Span(ended, perf_counter(), name=ASIDE))

    @contextmanager
    def rolled_back(self) -> Iterator[PatientConnection]:
        """A connection in a transaction that is rolled back in the end."""
        with super().connection() as connection, connection.transaction(force_rollback=True):
            yield connection

    def _note(self, noting: "_Noting", begun: float, ended: float) -> None:
        self._trace.note(Span(begun, ended, tuple(noting.statements), noting.round_trips, node=self.name))


class _Noting:
    """A connection that notes what it executes, as far as storage uses one."""

    def __init__(self, connection: PatientConnection, trace: Trace) -> None:
        self._connection = connection
        self._trace = trace
        self._piped = False
        self.statements: list[bytes] = []
        self.round_trips = 0

    def execute(self, query: bytes, params: Params | None = None, **how: Any) -> Cursor[Row]:
        """As a connection's own."""
        if self._trace.explains:
            self._trace.plans.append(plans.explain(self._connection, query, params or {}))
        self.statements.append(query)
        self.round_trips += not self._piped
        return self._connection.execute(query, params, **how)

    @contextmanager
    def pipeline(self) -> Iterator[Pipeline]:
        """As a connection's own: all that is sent in it is waited for once."""
        self.round_trips += 1
        self._piped = True
        with self._connection.pipeline() as pipeline:
            yield pipeline

    def transaction(self) -> AbstractContextManager[Transaction]:
        """As a connection's own, whose begin and end are waited for as well."""
        self.round_trips += 0 if self._piped else 2
        return self._connection.transaction()
