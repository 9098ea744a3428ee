"""The cluster: the nodes, and the map that says which shard lives where.

The map is in control and cached by every process; the authority is each shard's own epoch, which the
fence checks in every write. So a stale map is safe, and with control down the nodes are asked.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from threading import Lock
from typing import Any, TypeAlias, TypeVar

import structlog

from memlane.config.settings import Settings
from memlane.errors import NodeDown, NotMigrated, ShardMoved, Unavailable
from memlane.storage import members, queries
from memlane.storage.connections import Row
from memlane.storage.hashing import shard_of, shard_of_text
from memlane.storage.knobs import Knobs
from memlane.storage.later import Later
from memlane.storage.members import Standby
from memlane.storage.nodes import Node, Params
from memlane.storage.open_bytes import Agent, OpenBytes
from memlane.storage.open_jobs import OpenJobs
from memlane.storage.queries import Query
from memlane.storage.rooms import Rooms
from memlane.storage.spending import OVER_BUDGET
from memlane.storage.terms import Terms

log = structlog.get_logger(__name__)

T = TypeVar("T")

MakeNode: TypeAlias = Callable[[str, str, Settings, str, int], Node]
"""Makes a node: its name, its address, the settings, the role of this process, and how many connections it may have."""

_SQL = queries.load("cluster")


@dataclass(frozen=True, slots=True)
class Shard:
    """One shard as this process knows it: where it lives, and at which epoch."""

    number: int
    node: Node = field(repr=False)
    epoch: int
    note: str | None = None
    """What whoever reads here has to know: that it is a standby."""

    @property
    def schema(self) -> str:
        """The name of its schema."""
        return schema_name(self.number)

    def run(
        self, query: Query, params: Params | None = None, patience_s: float | None = None, **places: str
    ) -> list[Row]:
        """Run one statement on this shard; see `Node.run`."""
        return self.node.run(self.render(query, **places), params, patience_s)

    def write(
        self, query: Query, params: Mapping[str, Any], patience_s: float | None = None, **places: str
    ) -> list[Row]:
        """Run one writing statement, which calls the fence with this epoch."""
        return self.run(query, {**params, "epoch": self.epoch}, patience_s, **places)

    def ping(self) -> None:
        """Whether it answers, here and open.

        Raises:
            NodeDown, ShardMoved: it does not.
        """
        if not self.run(_SQL["active"]):
            raise ShardMoved(f"shard {self.number} is not open on node {self.node.name}")

    def render(self, query: Query, **places: str) -> bytes:
        """A statement with this shard's schema filled in."""
        return query.render(**places, shard=self.schema)


def _note(node: str, found: Standby) -> str | None:
    """What whoever reads there has to know; nothing if it is the primary after all."""
    if not found.follows:
        return None
    note = f"read from a standby of {node}, whose primary does not answer"
    return f"{note}; what was written last may be missing" if found.may_lack else note


def schema_name(shard: int) -> str:
    """The schema of a shard."""
    return f"shard_{shard:02d}"


@dataclass(frozen=True, slots=True)
class ShardMap:
    """Which shards there are, and where; `count` also counts those whose place is not known."""

    count: int
    shards: Mapping[int, Shard]


class Cluster:
    """All nodes and shards, for one process."""

    def __init__(self, settings: Settings, role: str, pool_size: int, make_node: MakeNode = Node) -> None:
        control = settings.control
        self.nodes = {
            name: make_node(name, uri.get_secret_value(), settings, role, pool_size)
            for name, uri in settings.nodes.items()
        }
        self.control = self.nodes[control]
        self.terms = Terms(self.control, settings)
        """What tenants may do."""
        self.rooms = Rooms(self.control)
        """What is left of the budgets that refuse."""
        self.open_jobs = OpenJobs(self._count_open_jobs)
        """How many jobs are open, of tenants that have a cap."""
        self.knobs = Knobs(self.control)
        """What auto-tune turns."""
        self.later = Later()
        """Does what nobody waits for."""
        limit_mb = settings.agent_open_mb
        self.open_bytes = OpenBytes(None if limit_mb is None else limit_mb * 1024 * 1024, self._find_open_bytes)
        """How much the memories of agents hold that are not stored yet."""
        self._known: ShardMap | None = None
        self._lock = Lock()

    def open(self) -> None:
        """Start connecting; call it after the fork."""
        for node in self.nodes.values():
            node.open()

    def begin(self) -> None:
        """Ask control for terms and budgets now, before somebody comes who cannot wait for it."""
        self.terms.begin()
        self.rooms.begin()
        self.knobs.begin()

    def close(self) -> None:
        """Close all connections."""
        for look in (self.terms, self.rooms, self.open_jobs, self.open_bytes, self.knobs, self.later):
            look.close()
        for node in self.nodes.values():
            node.close()

    @property
    def shard_count(self) -> int:
        """How many shards the cluster was created with."""
        return self._map().count

    def shards(self) -> list[Shard]:
        """All shards that are on the map, by number."""
        return [shard for _, shard in sorted(self._map().shards.items())]

    def by_node(self) -> dict[str, list[Shard]]:
        """All shards that are on the map, by the names of their nodes."""
        found: defaultdict[str, list[Shard]] = defaultdict(list)
        for shard in self.shards():
            found[shard.node.name].append(shard)
        return dict(found)

    def shard(self, number: int) -> Shard:
        """One shard by number.

        Raises:
            NodeDown: it lives on a node that did not answer when the map was read, or that is not set here.
        """
        found = self._map().shards.get(number)
        if found is None:
            self.refresh()
            found = self._map().shards.get(number)
        if found is None:
            raise NodeDown(f"shard {number} is on a node that does not answer")
        return found

    def node_of(self, number: int) -> str | None:
        """The name of the node that a shard is on by the map at hand; asks nobody."""
        shard = self._known.shards.get(number) if self._known else None
        return shard.node.name if shard else None

    def known_nodes(self) -> list[str]:
        """The name of the node of each shard, by the map at hand; none while there is no map. Asks nobody."""
        return [shard.node.name for shard in self._known.shards.values()] if self._known else []

    def shard_of(self, tenant: str, agent: str) -> int:
        """The number of the shard where an agent lives."""
        return shard_of(tenant, agent, self.shard_count)

    def shard_of_text(self, tenant: str, text_hash: bytes) -> int:
        """The number of the shard where a text without an agent lives."""
        return shard_of_text(tenant, text_hash, self.shard_count)

    def on(self, number: int, work: Callable[[Shard], T]) -> T:
        """Do work on a shard; where it has moved, read the map again and do it there.

        Raises:
            ShardMoved: the map does not know better either; the move is still going on.
        """
        try:
            return work(self.shard(number))
        except ShardMoved:
            log.info("map.stale", shard=number)
            self.refresh()
            return work(self.shard(number))

    def reading(self, number: int, work: Callable[[Shard], T]) -> T:
        """Do work that only reads: on the primary, or while that is down on a standby; the shard's note says so.

        Raises:
            NodeDown: neither answers.
        """
        shard = self.shard(number)
        if not (shard.node.members and shard.node.suspect):  # else it has just failed: nobody waits for it again
            try:
                return self.on(number, work)
            except NodeDown:
                shard = self.shard(number)
                if not shard.node.members:
                    raise
        found = members.freshest(shard.node)
        return work(replace(shard, node=found.node, note=_note(shard.node.name, found)))

    def refresh(self) -> None:
        """Read the map again: from control, or from the nodes themselves while it is down.

        Raises:
            NodeDown: none could be read, and there is no older map.
            NotMigrated: there is no cluster yet.
        """
        try:
            found = self._from_control()
        except NodeDown as error:
            log.warning("map.control_down", why=str(error))
            found = self._from_nodes()
        with self._lock:
            self._known = found

    def _count_open_jobs(self) -> dict[int, Mapping[str, int] | None]:
        """Open jobs of the tenants that have a cap, by shard; None for one that does not answer."""
        wanted = {"tenants": self.terms.capped, "over_budget": OVER_BUDGET}
        found: dict[int, Mapping[str, int] | None] = {}
        for shard in self.shards():
            try:
                found[shard.number] = dict(shard.run(_SQL["open_jobs"], wanted))
            except Unavailable:
                found[shard.number] = None
        return found

    def _find_open_bytes(self, agents: Collection[Agent], above: int) -> dict[Agent, int]:
        """How many bytes agents hold open, 0 if no more than so many; without those whose shards do not answer."""
        by_shard: defaultdict[int, list[Agent]] = defaultdict(list)
        for agent in agents:
            by_shard[self.shard_of(*agent)].append(agent)
        found: dict[Agent, int] = {}
        for number, here in sorted(by_shard.items()):
            params = {"tenants": [tenant for tenant, _ in here], "agents": [agent for _, agent in here], "above": above}
            try:
                rows = self.shard(number).run(_SQL["open_bytes"], params)
            except Unavailable as error:
                log.warning("open_bytes.unknown", shard=number, why=str(error))
            else:
                found |= dict.fromkeys(here, 0) | {(tenant, agent): held for tenant, agent, held in rows}
        return found

    def _map(self) -> ShardMap:
        if self._known is None:
            self.refresh()
        assert self._known is not None
        return self._known

    def _from_control(self) -> ShardMap:
        created = self.control.run(_SQL["found"].render())
        if not created:
            raise NotMigrated("there is no cluster yet: run `memlane migrate`")
        rows = self.control.run(_SQL["shards"].render())
        shards = {n: Shard(n, self.nodes[node], epoch) for n, node, epoch in rows if node in self.nodes}
        return ShardMap(created[0][0], shards)

    def _from_nodes(self) -> ShardMap:
        """What the shards say of themselves; those on nodes that are down keep their last known place."""
        shards = dict(self._known.shards) if self._known else {}
        count = self._known.count if self._known else 0
        whys: list[str] = []
        for node in self.nodes.values():
            try:
                for (schema,) in node.run(_SQL["schemas"].render()):
                    for number, epoch, of in node.run(_SQL["active"].render(shard=schema)):
                        shards[number], count = Shard(number, node, epoch), of
            except NodeDown as error:
                log.warning("map.node_down", node=node.name)
                whys.append(str(error))
        if not count:
            raise NodeDown("; ".join(whys) or "no node has a shard")
        return ShardMap(count, shards)
