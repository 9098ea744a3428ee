"""Failover by hand: a standby takes the primary's place, and a former primary follows.

For a stack on one machine, and whoever operates it alone. The supervisor starts and stops the servers; what is done
here is written into the line-up first, which it obeys, so that there are never two primaries.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from time import monotonic, sleep

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
        Misconfigured: none runs, or it has no such node.
    """
    state, shape = folder.running(), folder.shape()
    if state is None or shape is None:
        raise Misconfigured(f"no stack runs in {folder.path}: start one with `memlane up`")
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
    found = group_of(folder, node)
    _most(found, wanted, accept_loss)  # before anything is stopped
    former = found.lineup.primary
    _send_out(folder, found, former)
    begun = monotonic()
    best = _most(found, wanted, accept_loss)
    lineup.keep(folder, node, found.lineup.promoting(best.name))
    replication.promote(best)
    took_s = monotonic() - begun
    return Promoted(node, best.name, former, round(took_s, 3), len(found.standbys) - 1)


def _send_out(folder: Folder, found: Group, former: str) -> None:
    """Let the supervisor stop the primary. Should the stack end meanwhile, it is the primary still."""
    lineup.keep(folder, found.name, replace(found.lineup, out=tuple(sorted({*found.lineup.out, former}))))
    deadline = monotonic() + _OUT_S
    while _listed(folder.running(), former):
        if monotonic() > deadline:
            lineup.keep(folder, found.name, found.lineup)
            raise Misconfigured(f"{former} was not stopped within {_OUT_S:.0f} s: nothing was promoted")
        sleep(0.02)


def _listed(state: StackState | None, server: str) -> bool:
    return state is not None and any(process.name == server for process in state.processes)


def promote_stopped(folder: Folder, node: str) -> str:
    """Let a standby be the primary of a node when the stack starts: whichever has the most then; the former's name.

    Raises:
        Misconfigured: there is no such node, or it has no standby.
    """
    shape = folder.shape()
    if shape is None:
        raise Misconfigured(f"there is no stack in {folder.path}")
    ports = [0] * (shape.standbys + 1)
    with folder.locked():
        found = group(folder, shape, folder.secrets(), node, ports, lineup.read(folder))
        there = [server for server in found.standbys if replication.is_standby(server)]
        if not there:
            raise Misconfigured(f"{node} has no standby here: there is nobody to be promoted")
        lineup.keep(folder, node, found.lineup.promoting(there[0].name))
    return found.lineup.primary


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
        raise Misconfigured(
            f"{', '.join(silent)} does not answer, and may have what no other standby has: see to it that it runs, or "
            "go on with --accept-loss"
        )
    best = found.server(max(has)[-1])
    if wanted is not None and best.name != wanted:
        raise Misconfigured(f"{wanted} lacks something that {best.name} has: promote {best.name}")
    return best


def rejoin(folder: Folder, node: str, report: Callable[[str], None]) -> list[str]:
    """Let former primaries of a node follow the present one, rewound or made anew; their names.

    Raises:
        Misconfigured: nobody is out, or the primary does not answer.
    """
    found = group_of(folder, node)
    if not found.lineup.out:
        raise Misconfigured(f"no server of {node} is out: `memlane nodes` shows them")
    for name in found.lineup.out:
        _bring_back(folder, found, found.server(name), report)
        current = lineup.read(folder)[node].with_back(name)
        lineup.keep(folder, node, current)
        replication.wait_until_streaming(found, found.server(name))
    return list(found.lineup.out)


def _bring_back(folder: Folder, found: Group, server: Postgres, report: Callable[[str], None]) -> None:
    try:
        report(f"rewinding {server.name}")
        replication.rewind(server, found.primary)
    except Misconfigured as error:
        report(f"{server.name} cannot be rewound, and is made anew: {error}")
        replication.clone(server, found.primary, folder.secrets().postgres_standby)
