"""Facts: what a look at the whole sees. Each dependency is asked in a thread of its own; who does not answer: None."""

from collections import Counter
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import datetime
from math import inf
from time import monotonic

from memlane.contract.health import Incident
from memlane.contract.status import BrokerStatus, DutyStatus, MemberStatus, NodeStatus
from memlane.storage import budgets, incidents, indexes, members, processes, reports, status, ticks
from memlane.storage.cluster import Cluster
from memlane.storage.indexes import Told
from memlane.storage.jobs import Backlog
from memlane.storage.members import Position
from memlane.storage.nodes import Node
from memlane.storage.processes import Process
from memlane.storage.reports import Figures, Last, Totals
from memlane.tasks.health.asking import ANSWER_S, Asked
from memlane.tasks.lane import Lane

_LEAST_S = 20.0
"""Counts that are compared lie at least so far apart."""

_SPENT = 100
"""The share of a budget that is all of it, in percent."""


_FALLEN_S = 3600.0
"""A cache whose use fell within this time was emptied, or does not know what is asked now."""


@dataclass(frozen=True, slots=True)
class ControlFacts:
    """What control knows.

    Attributes:
        now: the time by its clock.
        processes: all that did not say good-bye.
        classes: those of which there ever was a process; those of the version before say nothing.
        duties: the last run of each.
        counts: what all processes have counted.
        before: the same some minutes ago; missing at first.
        figures: of the last looks, the oldest first.
        last: the last look; missing at first.
        incidents: those that go on.
        budgets_spent: how many budgets are used up.
        cached_percent: the most that the cache of questions was of use for at a look of the last hour; missing where
            nobody knows.
        indexes: how those of large agents are doing, by shard.
        steady_s: for how long it has not failed whoever looks: before that nobody could tell it that he lives.
    """

    now: datetime
    processes: Sequence[Process] = ()
    duties: Sequence[DutyStatus] = ()
    counts: Mapping[str, float] = field(default_factory=dict)
    before: Totals | None = None
    figures: Sequence[Figures] = ()
    last: Last | None = None
    incidents: Sequence[Incident] = ()
    budgets_spent: int = 0
    steady_s: float = inf
    classes: AbstractSet[str] = frozenset()
    cached_percent: float | None = None
    indexes: Mapping[int, Told] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """What a node says.

    Attributes:
        status: whether its primary answers, with its servers where it has standbys; None: it did not in time.
        backlogs: the jobs of each of its shards by number, None of one that is not open; None: it did not say in time.
        sizes: about how many bytes its shards take; None: it did not say.
        steady_s: for how long it has not failed whoever looks.
        shards: how many there are on it, by the map.
    """

    status: NodeStatus | None
    backlogs: Mapping[int, Sequence[Backlog] | None] | None = None
    sizes: Mapping[str, int] | None = None
    steady_s: float = inf
    shards: int = 0


@dataclass(frozen=True, slots=True)
class Facts:
    """What was seen at one moment.

    Attributes:
        control_node: the name of the node that has control.
        nodes: each node, by its name.
        broker: None: it did not answer in time, or was not asked.
        control: None: it did not answer in time.
        took_s: how long the look took.
        broker_asked: whether it was.
    """

    control_node: str
    nodes: Mapping[str, NodeFacts]
    broker: BrokerStatus | None
    control: ControlFacts | None
    took_s: float = 0.0
    broker_asked: bool = True


@dataclass(frozen=True, slots=True)
class _NodeAsked:
    status: Asked[NodeStatus]
    servers: Mapping[str, Asked[Position | None]]
    backlogs: Asked[dict[int, Sequence[Backlog] | None]]
    sizes: Asked[dict[str, int]]


def gather(lane: Lane, within_s: float = ANSWER_S) -> Facts:
    """Look at everything, side by side; never longer than `within_s` and a moment.

    Args:
        lane: this process's.
        within_s: how long each is waited for.
    """
    begun = monotonic()
    asking, cluster, until = lane.asking, lane.cluster, begun + within_s
    asked = {name: _ask_node(lane, node) for name, node in cluster.nodes.items()}
    broker_asked = asking.begin("broker", lane.ask_broker) if lane.ask_broker is not None else None
    control_asked = asking.begin("control", lambda: _ask_control(cluster, lane.settings.health_window_s))
    shards = Counter(cluster.known_nodes())
    return Facts(
        cluster.control.name,
        {name: _answered(cluster.nodes[name], one, until, shards[name]) for name, one in asked.items()},
        broker_asked.wait(until) if broker_asked is not None else None,
        control_asked.wait(until),
        monotonic() - begun,
        broker_asked is not None,
    )


def _ask_node(lane: Lane, node: Node) -> _NodeAsked:
    begin, name = lane.asking.begin, node.name
    return _NodeAsked(
        begin(f"node {name}", lambda: status.node_status(node)),
        {m.address: _ask_server(lane, name, m) for m in node.members},
        begin(f"jobs {name}", lambda: _backlogs(lane.cluster, node)),
        begin(f"sizes {name}", lambda: reports.sizes(node)),
    )


def _ask_server(lane: Lane, name: str, member: Node) -> Asked[Position | None]:
    return lane.asking.begin(f"server {name} {member.address}", lambda: members.position(member))


def _answered(node: Node, asked: _NodeAsked, until: float, shards: int) -> NodeFacts:
    found = asked.status.wait(until)
    seen = [(member, asked.servers[member.address].wait(until)) for member in node.members]
    servers: Sequence[MemberStatus] = members.described(seen)
    if found is not None:
        found = NodeStatus(found.name, found.up, found.settings, servers)
    return NodeFacts(found, asked.backlogs.wait(until), asked.sizes.wait(until), node.steady_s, shards)


def _backlogs(cluster: Cluster, node: Node) -> dict[int, Sequence[Backlog] | None]:
    return {shard.number: status.backlog_of(cluster, shard.number) for shard in cluster.shards() if shard.node is node}


def _ask_control(cluster: Cluster, window_s: float) -> ControlFacts:
    control = cluster.control
    return ControlFacts(
        now=reports.now(control),
        processes=processes.living(control),
        duties=ticks.last(control),
        counts=processes.counts(control),
        before=reports.before(control, window_s, _LEAST_S),
        figures=reports.figures(control, window_s),
        last=reports.newest(control),
        incidents=incidents.open_(control),
        budgets_spent=budgets.reached(control, (_SPENT,))[_SPENT],
        steady_s=control.steady_s,
        classes=processes.classes(control),
        cached_percent=reports.cached_percent(control, _FALLEN_S),
        indexes=indexes.told(control),
    )
