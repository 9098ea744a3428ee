"""Failover by hand: a standby takes the primary's place, and a former primary follows.

For a stack on one machine, and whoever operates it alone. The supervisor starts and stops the servers; what is done
here is written into the line-up first, which it obeys, so that there are never two primaries.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic, sleep

import psycopg

from memlane.embedded import lineup, replication
from memlane.embedded.folder import Folder, StackState
from memlane.embedded.group import Group, group
from memlane.embedded.postgres import Postgres
from memlane.errors import Misconfigured

_OUT_S = 15.0
"""How long the supervisor may take to stop a server that is out."""


@dataclass(frozen=True, slots=True)
class Promoted:
    """A standby that took the primary's place.

    Attributes:
        node: whose.
        primary: the server that is the primary now.
        former: the one that was.
        took_s: from when the former was stopped to when the new one took what is written.
        standbys: how many follow it, or will.
    """

    node: str
    primary: str
    former: str
    took_s: float
    standbys: int


def group_of(folder: Folder, node: str) -> Group:
    """A node of the stack that runs in a directory.

    Raises:
        Misconfigured: none runs, or it is only just starting, or it has no such node.
    """
    state, shape = folder.running(), folder.shape()
    if state is None or shape is None:
        raise Misconfigured(f"no stack runs in {folder.path}: start one with `memlane up`")
    if not state.ready:  # its supervisor does not obey the line-up yet
        raise Misconfigured(f"the stack in {folder.path} is just starting: try again in a moment")
    if node not in state.nodes:
        raise Misconfigured(f"there is no {node}: the nodes are {', '.join(state.nodes)}")
    ports = [int(address.rpartition(":")[2]) for address in state.nodes[node].split(",")]
    return group(folder, shape, folder.secrets(), node, ports, lineup.read(folder))


def promote(folder: Folder, node: str, wanted: str | None = None, *, accept_loss: bool = False) -> Promoted:
    """Make a standby of a node its primary: the one that has the most, unless another is named that has as much.

    The former primary is stopped if it still runs, and stays out until it is brought back.

    Args:
        folder: of a stack that runs.
        node: whose.
        wanted: the standby's name.
        accept_loss: go on where a standby does not answer, which may have what no other has.

    Raises:
        Misconfigured: a standby does not answer, or the one that is named lacks something.
    """
    with lineup.alone(folder):
        found = group_of(folder, node)
        former = found.lineup.primary
        if _is_to_be_promoted(found):
            best, begun = found.primary, monotonic()
        else:
            _most(found, wanted, accept_loss)  # before anything is stopped
            _send_out(folder, found, former)
            begun = monotonic()
            try:
                best = _most(found, wanted, accept_loss)
            except Misconfigured:
                lineup.keep(folder, node, found.lineup)  # its primary is started again
                raise
            lineup.keep(folder, node, found.lineup.promoting(best.name))
        replication.promote(best)
        took_s = monotonic() - begun
    left = [server for server in found.standbys if server != best]
    return Promoted(node, best.name, former, round(took_s, 3), len(left))


def _is_to_be_promoted(found: Group) -> bool:
    """Whether the primary of the line-up is still a standby: a promotion broke off."""
    try:
        return replication.follows(found.primary)
    except psycopg.OperationalError:
        return False


def promote_stopped(folder: Folder, node: str, *, accept_loss: bool = False) -> str:
    """Let a standby be the primary of a node when the stack starts: whichever has the most then; the former's name.

    Raises:
        Misconfigured: there is no such node, it has no standby, or the data of one is not there.
    """
    shape = folder.shape()
    if shape is None:
        raise Misconfigured(f"there is no stack in {folder.path}")
    with folder.locked(), lineup.alone(folder):
        ports = [0] * (shape.standbys + 1)
        found = group(folder, shape, folder.secrets(), node, ports, lineup.read(folder))
        there = [server for server in found.standbys if replication.is_standby(server)]
        if not there:
            raise Misconfigured(f"{node} has no standby here: there is nobody to be promoted")
        missing = [server.name for server in found.standbys if server not in there]
        if missing and not accept_loss:
            raise Misconfigured(_may_have_more(missing, "is not there"))
        lineup.keep(folder, node, found.lineup.promoting(there[0].name))
    return found.lineup.primary


def _may_have_more(silent: Sequence[str], how: str) -> str:
    return (
        f"{', '.join(silent)} {how}, and may have what no other standby has: see to it that it runs, or go on with "
        "--accept-loss"
    )


def _send_out(folder: Folder, found: Group, former: str) -> None:
    """Let the supervisor stop the primary. Should the stack end meanwhile, it is the primary still."""
    lineup.keep(folder, found.name, found.lineup.stopping())
    deadline = monotonic() + _OUT_S
    while _listed(folder.running(), former):
        if monotonic() > deadline:
            lineup.keep(folder, found.name, found.lineup)
            raise Misconfigured(f"{former} was not stopped within {_OUT_S:.0f} s: nothing was promoted")
        sleep(0.02)


def _listed(state: StackState | None, server: str) -> bool:
    return state is not None and any(process.name == server for process in state.processes)


def _most(found: Group, wanted: str | None, accept_loss: bool) -> Postgres:
    """The standby that has the most of the log.

    Raises:
        Misconfigured: one does not answer, or another was wanted that has less.
    """
    if wanted is not None and wanted not in [server.name for server in found.standbys]:
        raise Misconfigured(f"{wanted} is no standby of {found.name}")
    positions = {server.name: replication.received(server) for server in found.standbys}
    has = [(at, name == wanted, name) for name, at in positions.items() if at is not None]
    if not has:
        raise Misconfigured(f"no standby of {found.name} answers: there is nobody to be promoted")
    silent = [name for name, at in positions.items() if at is None]
    if silent and not accept_loss:
        raise Misconfigured(_may_have_more(silent, "does not answer"))
    best = found.server(max(has)[-1])
    if wanted is not None and best.name != wanted:
        raise Misconfigured(f"{wanted} lacks something that {best.name} has: promote {best.name}")
    return best


def rejoin(folder: Folder, node: str, report: Callable[[str], None]) -> list[str]:
    """Let former primaries of a node follow the present one, rewound or made anew; their names.

    Raises:
        Misconfigured: nobody is out, or the primary does not answer.
    """
    with lineup.alone(folder):
        found = group_of(folder, node)
        if not found.lineup.out:
            raise Misconfigured(f"no server of {node} is out: `memlane nodes` shows them")
        for name in found.lineup.out:
            _bring_back(folder, found, found.server(name), report)
            lineup.keep(folder, node, lineup.read(folder)[node].with_back(name))
            replication.wait_until_streaming(found, found.server(name))
    return list(found.lineup.out)


def _bring_back(folder: Folder, found: Group, server: Postgres, report: Callable[[str], None]) -> None:
    try:
        report(f"rewinding {server.name}")
        replication.rewind(server, found.primary)
    except Misconfigured as error:
        report(f"{server.name} cannot be rewound, and is made anew: {error}")
        replication.clone(server, found.primary, folder.secrets().postgres_standby)
