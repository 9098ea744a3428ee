"""What several tests use: settings, items, drains without Celery, and SQL of the tests' own."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Condition
from time import monotonic, sleep
from typing import Any, Protocol
from uuid import uuid4

import psycopg
from psycopg.conninfo import make_conninfo
from pydantic import SecretStr

from memlane.config.settings import Settings
from memlane.contract import Ledger, MemoryItem, Recalled, RecallRequest, Receipt
from memlane.storage import ledger
from memlane.storage.cluster import Cluster
from memlane.storage.halfvec import Vector
from memlane.storage.jobs import Kind
from memlane.storage.spending import Group
from memlane.tasks import accept, recall
from memlane.tasks.embedders import Embedder
from memlane.tasks.lane import Lane
from memlane.tasks.pace import make_pace
from memlane.tasks.provider import Provider, Wanted
from memlane.tasks.recall import Question
from memlane.workers import drains
from memlane.workers.drains import Process
from memlane.workers.marks import NoMarks
from memlane.workers.returns import Returns
from memlane.workers.wakeups import DRAIN_OF

ROLE_PASSWORD = "test"
"""Of the gateway's and the workers' roles on the test server."""


class MakeSettings(Protocol):
    """Makes settings of a fresh cluster."""

    def __call__(self, **more: object) -> Settings: ...


class Recorder:
    """Takes wake-ups, and tells which there were."""

    def __init__(self) -> None:
        self.calls: list[tuple[Kind, int]] = []
        self._more = Condition()

    def __call__(self, kind: Kind, shard: int) -> None:
        with self._more:
            self.calls.append((kind, shard))
            self._more.notify_all()

    def take(self) -> list[tuple[Kind, int]]:
        """What came since the last time."""
        with self._more:
            taken, self.calls = self.calls, []
            return taken

    def wait(self, timeout_s: float) -> list[tuple[Kind, int]]:
        """As `take`, but waits for the first."""
        with self._more:
            self._more.wait_for(lambda: self.calls, timeout_s)
        return self.take()


def as_role(settings: Settings, role: str) -> Settings:
    """The same settings for a process that logs in as one of the roles."""
    nodes = {
        name: SecretStr(make_conninfo(uri.get_secret_value(), user=role, password=ROLE_PASSWORD))
        for name, uri in settings.nodes.items()
    }
    return settings.model_copy(update={"nodes": nodes})


def item(content: str = "tea is ready", agent: str = "ada", **fields: Any) -> MemoryItem:
    """A memory to hand over."""
    return MemoryItem.model_validate({"agent": agent, "content": content, **fields})


def accepted(lane: Lane, *items: MemoryItem, tenant: str = "acme") -> list[Receipt]:
    """Accept memories, and be sure that each was."""
    results = accept.accept(lane, tenant, items)
    receipts = [result for result in results if isinstance(result, Receipt)]
    assert len(receipts) == len(items), results
    return receipts


def process_of(lane: Lane, stopping: Callable[[], bool] = lambda: False) -> Process:
    """A process to drain in."""
    return Process(lane, NoMarks(), f"test:{uuid4()}", stopping, Returns(lane.cluster, 0.05))


def drain_all(lane: Lane, *kinds: Kind) -> None:
    """Do what workers would do, here and now, for all shards."""
    tasks = {DRAIN_OF[kind] for kind in kinds or tuple(Kind)}
    for task in sorted(tasks, reverse=True):
        for shard in lane.cluster.shards():
            over = True
            while over:  # a machine with much to do needs more than a slice
                begun = monotonic()
                drains.drain(process_of(lane), task, shard.number)
                over = monotonic() - begun >= lane.settings.slice_s / len(drains.KINDS_OF[task])


def remembered(lane: Lane, *items: MemoryItem, tenant: str = "acme") -> list[Receipt]:
    """Accept memories and store them."""
    receipts = accepted(lane, *items, tenant=tenant)
    drain_all(lane, Kind.REMEMBER)
    return receipts


@contextmanager
def sql(settings: Settings, node: str = "node-1") -> Iterator["psycopg.Connection[tuple[Any, ...]]"]:
    """A connection of the test's own, that owes nothing to the code under test."""
    with psycopg.connect(settings.nodes[node].get_secret_value(), autocommit=True) as connection:
        yield connection


def count_rows(settings: Settings, cluster: Cluster, table: str, where: str = "true") -> int:
    """Rows of a table over all shards, counted by the test itself."""
    total = 0
    for shard in cluster.shards():
        with sql(settings, shard.node.name) as connection:
            row = connection.execute(f"SELECT count(*) FROM {shard.schema}.{table} WHERE {where}".encode()).fetchone()
            assert row is not None
            total += row[0]
    return total


def asks(lane: Lane, embedder: Embedder) -> None:
    """Have a lane ask another embedder."""
    lane.__dict__["provider"] = Provider(embedder, make_pace(lane.settings), lane.purse, lane.hooks)


def embedded(lane: Lane, text: str) -> Vector:
    """The vector of a text, made now."""
    return lane.provider.embed([Wanted(Group("acme", ""), text)], 1.0).vectors[0]


def recalled(lane: Lane, tenant: str, request: RecallRequest) -> Recalled:
    """Recall from one agent as the gateway does, here and now."""
    made = lane.provider.embed([Wanted(Group(tenant, request.agent or ""), request.query)], 1.0)
    question = Question(tenant, request, made.vectors.get(0), made.refusals.get(0))
    ((shard, names),) = recall.place(lane, question).items()
    return recall.alone(lane, question, shard, names).recalled


def ledger_of(cluster: Cluster, tenant: str) -> Ledger:
    """The ledger of a tenant over all shards, asked one after the other."""
    return ledger.added({number: ledger.sums(cluster.shard(number), tenant) for number in range(cluster.shard_count)})


def eventually(holds: Callable[[], bool], timeout_s: float = 15.0) -> None:
    """Wait until something holds."""
    deadline = monotonic() + timeout_s
    while not holds():
        assert monotonic() < deadline, "it did not happen in time"
        sleep(0.02)
