"""nodes: which servers there are, who is the primary, how far the others are behind; and failover on this machine."""

from collections.abc import Sequence
from typing import Annotated

import typer
from rich.table import Table

from memlane.cli.output import Output, table
from memlane.cli.session import ApiKey, Data, Json, Url, open_session
from memlane.cli.stack import folder_of
from memlane.contract.status import MemberStatus, NodeStatus, Role

nodes = typer.Typer(help="Nodes: Postgres servers, each a primary with its standbys.", invoke_without_command=True)

Node = Annotated[str, typer.Argument(help="Its name, as `memlane nodes` shows it.")]


@nodes.callback()
def show(
    context: typer.Context, url: Url = None, api_key: ApiKey = None, data: Data = None, as_json: Json = False
) -> None:
    """Show each server of each node, its role, and how far it is behind. The exit code is 1 if something is wrong.

    Example: memlane nodes
    """
    if context.invoked_subcommand is not None:
        return
    session = open_session(url, api_key, data, as_json)
    found = session.admin().nodes()
    session.out.result(found, _text(found))
    if any(node.alarm or not node.up for node in found):
        raise typer.Exit(1)


def _text(found: Sequence[NodeStatus]) -> list[Table | str]:
    """The servers for people."""
    rows = [(node.name, member.address, member.role.value, *_lag(member)) for node in found for member in node.members]
    alarms = [f"{node.name}: {node.alarm}" for node in found if node.alarm]
    alarms += [f"{node.name}: its primary does not answer" for node in found if not node.up]
    return [table("", ["node", "server", "role", "behind, bytes", "not yet seen, bytes"], rows), *alarms]


def _lag(member: MemberStatus) -> tuple[int | None, int | None]:
    return (member.lag_bytes, member.replay_lag_bytes) if member.role is Role.STANDBY else (None, None)


@nodes.command()
def promote(
    node: Node,
    server: Annotated[str | None, typer.Option(help="The standby; the one that has the most unless given.")] = None,
    accept_loss: Annotated[
        bool, typer.Option("--accept-loss", help="Go on although a standby does not answer, which may have more.")
    ] = False,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Make a standby the primary of a node of the stack on this machine; the former primary is stopped, and stays out.

    Nothing that was confirmed is lost. Of several standbys the one that has the most is taken. Where the stack does not
    run, it is done when it starts.

    Example: memlane nodes promote node-1
    """
    from memlane.embedded import failover

    out = Output(as_json)
    folder = folder_of(data)
    if not folder.in_use():
        if server is not None:
            raise typer.BadParameter("the stack does not run: whoever has the most is taken", param_hint="--server")
        former = failover.promote_stopped(folder, node, accept_loss=accept_loss)
        said = f"{former} is out; the standby of {node} that has the most takes its place when the stack starts"
        out.result({"node": node, "former": former}, said)
        return
    done = failover.promote(folder, node, server, accept_loss=accept_loss)
    text = [f"{done.primary} is the primary of {node}, after {done.took_s} s; {done.former} is out"]
    text.append(f"`memlane nodes rejoin {node}` lets {done.former} follow it")
    out.result(done, text)
    if not done.standbys:
        out.warn(f"{node} has no standby left until then")


@nodes.command()
def rejoin(node: Node, data: Data = None, as_json: Json = False) -> None:
    """Let former primaries of a node follow the present one: rewound, or copied anew where that is not possible.

    Example: memlane nodes rejoin node-1
    """
    from memlane.embedded import failover

    out = Output(as_json)
    back = failover.rejoin(folder_of(data), node, out.line)
    out.result({"node": node, "back": back}, f"{', '.join(back)} follows the primary of {node}")
