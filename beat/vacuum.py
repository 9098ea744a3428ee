"""Vacuum: looks after the tables and indexes that need it, the worst first; one after the other on each node.

What is left of an agent's index has to be counted, which takes long for a large one: each is counted once a day at
most, in a limited part of the slice, and what could not be counted holds up nothing else.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from threading import Thread
from time import monotonic
from typing import Any

import psycopg
import structlog

from memlane.beat.duty import DAY_S, Slice
from memlane.contract.upkeep import Action, Ended, Vacuumed
from memlane.errors import MemlaneError
from memlane.storage import progress, upkeep
from memlane.storage import vacuum as kept
from memlane.storage.cluster import Shard
from memlane.storage.connections import PatientConnection
from memlane.storage.nodes import Node
from memlane.storage.vacuum import Index, Relation, Size
from memlane.tasks import worn
from memlane.tasks.lane import Lane
from memlane.tasks.worn import Chore, Limits

log = structlog.get_logger(__name__)

_CONTROL = "control"

_DUTY = "vacuum"

_COUNT_S = 15.0
"""How long one count may take: over a million vectors it takes less than a second, unless the disk has to be read."""

_COUNTING = 0.25
"""The part of the slice in which indexes are counted; those that are left come with the next."""

_LEAST_S = 1.0
"""With less time than this nothing is begun."""

_GRACE_S = 2.0
"""How long after the slice a node's thread is waited for, whose last statement is being stopped."""


def vacuum(lane: Lane, slice_: Slice) -> str:
    """Do what is due on all nodes; one that does not answer, or where somebody else is at it, is left for next time."""
    shards = {lane.cluster.control.name: [], **lane.cluster.by_node()}
    stops = kept.stops(lane.cluster.control)
    counted = progress.lately(lane.cluster.control, _DUTY, DAY_S)
    known = _Known(stops, counted)
    rounds = [_Round(lane, lane.cluster.nodes[node], here, slice_, known) for node, here in sorted(shards.items())]
    threads = [Thread(target=one.run, name=f"vacuum {one.node.name}", daemon=True) for one in rounds]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(slice_.left_s + _GRACE_S)
    did = sum((one.did for one in rounds), Counter[str]())
    return ", ".join(f"{what} {count}" for what, count in sorted(did.items())) or "nothing was due"


@dataclass(frozen=True, slots=True)
class _Known:
    """What runs before found out: how often work on a relation was stopped, and what was counted within a day."""

    stops: Mapping[Relation, int]
    counted: Mapping[str, Any]


class _Round:
    """One node's turn."""

    def __init__(self, lane: Lane, node: Node, shards: Sequence[Shard], slice_: Slice, known: _Known) -> None:
        self.node = node
        self.did: Counter[str] = Counter()
        self._lane = lane
        self._limits: Limits = worn.limits_of(lane.settings)
        self._shards = {shard.schema: shard for shard in shards}
        self._slice = slice_
        self._known = known
        self._indexes: dict[tuple[str, str], Index] = {}

    def run(self) -> None:
        """Do what is due, as long as there is time."""
        try:
            for shard in self._shards.values():
                self._drop_broken(shard)
            with kept.alone(self.node) as connection:
                if connection is None:
                    self.did["nodes busy"] += 1
                    return
                self._all(connection)
        except MemlaneError as error:
            self.did["nodes skipped"] += 1
            log.warning("vacuum.node_skipped", node=self.node.name, why=str(error))
        except Exception:  # the other nodes go on
            self.did["nodes skipped"] += 1
            log.exception("vacuum.node_failed", node=self.node.name)

    def _drop_broken(self, shard: Shard) -> None:
        """Drop what a broken build left, unless somebody builds in the shard just now."""
        with upkeep.alone(shard) as mine:
            if not mine:
                return
            for name in upkeep.drop_left_indexes(shard):
                log.info("index.broken_dropped", shard=shard.number, index=name)
                self._note(Vacuumed(self.node.name, name, Action.DROP, "left unfinished", Ended.DONE, 0.0), shard)

    def _all(self, connection: PatientConnection) -> None:
        schemas = [*self._shards, *([_CONTROL] if self.node is self._lane.cluster.control else [])]
        tables = worn.due(kept.worn(connection, schemas), self._limits)
        reindexes = self._reindexes(connection)
        bloated = {(schema, index.table) for (schema, _), index in self._indexes.items()}
        for chore in worn.in_order(tables, reindexes, bloated, self._stops_here()):
            if self._slice.left_s < _LEAST_S:
                self.did["left for next time"] += 1
                continue
            if chore.action is Action.REINDEX:
                self._reindex(connection, chore)
            else:
                self._do(connection, chore)

    def _reindexes(self, connection: PatientConnection) -> list[Chore]:
        """The indexes that are due, as far as they are counted."""
        found = []
        counting = Slice(self._slice.left_s * _COUNTING)
        for shard in self._shards.values():
            for known in kept.indexes(connection, shard):
                index = self._counted(connection, shard, known, counting)
                if chore := worn.bloated(shard.schema, index, self._limits):
                    found.append(chore)
                    self._indexes[shard.schema, index.name] = index
        return found

    def _counted(self, connection: PatientConnection, shard: Shard, index: Index, counting: Slice) -> Index:
        """An index with what is left of it, as it was counted within a day; who was never counted is from now on."""
        part = f"{shard.number} {index.agent} {index.model}"
        before = self._known.counted.get(part)
        if before is not None and before["index"] == index.name:
            return replace(index, living=before["living"])
        if counting.over:
            self.did["not counted yet"] += 1
            return index
        living = kept.living(connection, shard, index, _COUNT_S)
        if living is None:
            log.warning("vacuum.not_counted", shard=shard.number, index=index.name, within_s=_COUNT_S)
        index = replace(index, living=living)
        if index.built is None and living is not None:
            kept.count_anew(connection, shard, index)
        progress.keep(self._lane.cluster.control, _DUTY, part, {"index": index.name, "living": living})
        return index

    def _stops_here(self) -> dict[tuple[str, str], int]:
        schemas = {shard.number: schema for schema, shard in self._shards.items()} | {-1: _CONTROL}
        return {
            (schemas[shard], relation): count
            for (node, shard, relation), count in self._known.stops.items()
            if node == self.node.name and shard in schemas
        }

    def _reindex(self, connection: PatientConnection, chore: Chore) -> None:
        """Build an index again, unless somebody builds in the shard just now; it is counted anew then."""
        shard, index = self._shards[chore.schema], self._indexes[chore.schema, chore.relation]
        with upkeep.alone(shard) as mine:
            if not mine:
                self.did["left for next time"] += 1
            elif self._do(connection, chore, (index.built or 0) - (index.living or 0)) is Ended.DONE:
                kept.count_anew(connection, shard, index)
            elif not self._slice.over:  # what it left behind costs each write: it goes at once, or with the next run
                self._drop_left(shard)

    def _drop_left(self, shard: Shard) -> None:
        for name in upkeep.drop_left_indexes(shard):
            log.info("index.broken_dropped", shard=shard.number, index=name)

    def _do(self, connection: PatientConnection, chore: Chore, gone: int | None = None) -> Ended:
        shard = self._shards.get(chore.schema)
        begun, before = monotonic(), kept.size(connection, chore.schema, chore.relation)
        try:
            ended = kept.work(connection, chore.action, chore.schema, chore.relation, self._slice.left_s)
        except psycopg.Error:
            self._note(_done(self.node, chore, Ended.FAILED, begun, (before, before)), shard)
            raise
        after = kept.size(connection, chore.schema, chore.relation)
        if gone is not None:  # Postgres does not count an index's dead
            before, after = Size(gone, before.bytes), Size(0 if ended is Ended.DONE else gone, after.bytes)
        self._note(_done(self.node, chore, ended, begun, (before, after)), shard)
        return ended

    def _note(self, done: Vacuumed, shard: Shard | None) -> None:
        self.did[done.action.value if done.outcome is Ended.DONE else done.outcome.value] += 1
        self._lane.measures.vacuumed(done.action.value, done.outcome.value)
        number = None if shard is None else shard.number
        log.info("vacuum.did", action=done.action, relation=done.relation, shard=number, outcome=done.outcome)
        try:
            kept.note(self._lane.cluster.control, replace(done, shard=number))
        except MemlaneError as error:
            log.warning("vacuum.not_noted", relation=done.relation, why=str(error))


def _done(node: Node, chore: Chore, ended: Ended, begun: float, sizes: tuple[Size, Size]) -> Vacuumed:
    before, after = sizes
    ms = (monotonic() - begun) * 1000
    counts = (before.dead, after.dead, before.bytes, after.bytes)
    return Vacuumed(node.name, chore.relation, chore.action, chore.why, ended, ms, *counts)
