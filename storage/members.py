"""The servers of a node: which is the primary, how far each has come, and whom to read from while there is none.

Of a commit that waited for its standbys at least one has the record on its disk. So while no primary answers, the
standby that has the most of the log has everything that was ever confirmed, provided that all standbys answer, and that
the primary waited; it is read from once it has also carried out what it has.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from time import monotonic, sleep

from memlane.contract.status import MemberStatus, Role
from memlane.errors import MemlaneError, NodeDown
from memlane.storage import queries
from memlane.storage.nodes import Node

POSITION = queries.load("cluster")["position"].render()
"""Asks a server for its `Position`; no row where it does not know it yet."""

_LOOK_S = 2.0
"""How long each server is waited for; a first connection is in it."""

_CATCH_UP_S = 2.0
"""How long a standby may take to carry out what it has received."""

_PAUSE_S = 0.01


@dataclass(frozen=True, slots=True)
class Position:
    """How far a server has come, in bytes of the log: what it has, and what those who read there see.

    Attributes:
        follows: whether it is a standby.
        received: what it has on its disk.
        replayed: what those who read there see.
        waits: whether as the primary it waits for standbys.
    """

    follows: bool
    received: int
    replayed: int
    waits: bool


@dataclass(frozen=True, slots=True)
class Standby:
    """Whom to read from: a standby, or a primary that was just promoted; and whether it may lack what was confirmed."""

    node: Node
    follows: bool
    may_lack: bool


def position(member: Node) -> Position | None:
    """How far a server has come; None if it does not answer, or does not know yet."""
    try:
        rows = member.run(POSITION, patience_s=_LOOK_S)
    except MemlaneError:
        return None
    return Position(*rows[0]) if rows else None


def positions(nodes: Sequence[Node]) -> list[tuple[Node, Position | None]]:
    """How far each of several servers has come, asked side by side: none is waited for longer than one."""
    with ThreadPoolExecutor(len(nodes)) as threads:
        return list(zip(nodes, threads.map(position, nodes), strict=True))


def freshest(node: Node) -> Standby:
    """The standby of a node that has the most, when it has carried that out.

    Raises:
        NodeDown: none answers, or it does not catch up with itself.
    """
    found = [(member, at) for member, at in positions(node.members) if at is not None]
    if not found:
        raise NodeDown(f"node {node.name} does not answer, and has no standby that does")
    best, at = max(found, key=lambda pair: (not pair[1].follows, pair[1].received))
    if at.follows:
        _wait_for(best, at.received)
    others_answer = len(found) >= len(node.members) - 1
    return Standby(best, at.follows, may_lack=at.follows and not (others_answer and at.waits))


def _wait_for(standby: Node, received: int) -> None:
    deadline = monotonic() + _CATCH_UP_S
    while (at := position(standby)) is None or at.replayed < received:
        if monotonic() > deadline:
            raise NodeDown(f"standby {standby.address} does not catch up")
        sleep(_PAUSE_S)


def statuses(node: Node) -> Sequence[MemberStatus]:
    """Each server of a node: its role, and how far behind the one that has the most it is."""
    return described(positions(node.members or (node,)))


def described(found: Sequence[tuple[Node, Position | None]]) -> Sequence[MemberStatus]:
    """Servers of a node by how far each has come: its role, and how far behind the one that has the most it is."""
    most = max((at.received for _, at in found if at is not None), default=0)
    return tuple(_status(member, at, most) for member, at in found)


def _status(member: Node, at: Position | None, most: int) -> MemberStatus:
    if at is None:
        return MemberStatus(member.address, Role.DOWN)
    role = Role.STANDBY if at.follows else Role.PRIMARY
    return MemberStatus(member.address, role, most - at.received, most - at.replayed)
