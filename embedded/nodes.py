"""The nodes of a stack: how their servers are started, and how the supervisor obeys their line-up."""

import subprocess
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

import structlog

from memlane.embedded import lineup, replication
from memlane.embedded.folder import Replication
from memlane.embedded.group import Group
from memlane.embedded.guard import Guard
from memlane.embedded.lineup import Lineup
from memlane.embedded.process import Command
from memlane.embedded.stack import Stack
from memlane.errors import Misconfigured

log = structlog.get_logger(__name__)


class Runner(Protocol):
    """Who runs processes."""

    def spawn(self, command: Command) -> None:
        """Start a process, and watch it."""

    def wait(self, name: str, wait: Callable[["subprocess.Popen[bytes]"], None]) -> None:
        """Wait until a process answers.

        Raises:
            Misconfigured: it does not; the message has the end of its log.
        """

    def runs(self, name: str) -> bool:
        """Whether a process is watched."""

    def send_out(self, name: str) -> None:
        """Stop a process at once, and watch it no more."""


class Nodes:
    """All nodes, each a primary with its standbys.

    Args:
        stack: whose.
        runner: starts and stops servers.
        report: told what is being done.
    """

    def __init__(self, stack: Stack, runner: Runner, report: Callable[[str], None]) -> None:
        self._folder = stack.folder
        self._password = stack.secrets.postgres_standby
        self._groups = {group.name: group for group in stack.nodes}
        self._runner = runner
        self._report = report
        self._lineup_at = 0.0
        self._guard = Guard(lambda: self.replicated, Replication(stack.shape.replication))

    @property
    def groups(self) -> list[Group]:
        """The nodes as they are now."""
        return list(self._groups.values())

    @property
    def replicated(self) -> list[Group]:
        """Those with standbys."""
        return [group for group in self.groups if group.replicated]

    def start(self) -> None:
        """Start all servers and wait until they answer.

        Raises:
            Misconfigured: one did not start, or it is not clear who the primary is.
        """
        self._lineup_at = lineup.changed_at(self._folder)
        for group in self.groups:
            self._settle(group)
        for group in self.groups:
            self._report(f"Postgres {group.name}")
            _check_data(group)
            group.primary.prepare()
            if group.replicated:  # nobody confirms yet
                group.primary.write_settings({"synchronous_standby_names": "''"})
            self._runner.spawn(group.primary.command())
        for group in self.groups:
            self._runner.wait(group.primary.name, group.primary.wait)
        for group in self.replicated:
            self._start_standbys(group)

    def begin_to_confirm(self) -> None:
        """From now on what is written is confirmed by standbys."""
        for group in self.replicated:
            replication.confirm_by(group.primary, group.confirmed_by)
        if self.replicated:
            self._guard.start()

    def stop(self) -> None:
        """Look after nobody any more."""
        self._guard.stop()

    def obey_lineup(self) -> bool:
        """Stop servers that are out, and start those that are back; whether the line-up has changed."""
        changed_at = lineup.changed_at(self._folder)
        if changed_at == self._lineup_at:
            return False
        self._lineup_at = changed_at
        for node, found in lineup.read(self._folder).items():
            self._groups[node] = group = replace(self._groups[node], lineup=found)
            for server in group.servers:
                out, runs = server.name in found.out, self._runner.runs(server.name)
                if out and runs:
                    log.warning("server.out", name=server.name)
                    self._runner.send_out(server.name)
                elif not out and not runs:
                    log.warning("server.back", name=server.name)
                    self._runner.spawn(server.command())
        return True

    def _keep(self, group: Group, found: Lineup) -> Group:
        lineup.keep(self._folder, group.name, found)
        self._groups[group.name] = replace(group, lineup=found)
        return self._groups[group.name]

    def _settle(self, group: Group) -> None:
        if group.lineup != group.lineup.settled():
            self._keep(group, group.lineup.settled())

    def _start_standbys(self, group: Group) -> None:
        """Start those that follow; those that are not there are copied from the primary."""
        there = [server for server in group.standbys if replication.is_standby(server)]
        for server in there:
            server.write_settings()
            self._runner.spawn(server.command())
        for server in there:
            self._runner.wait(server.name, server.wait)
        if replication.follows(group.primary):
            group = self._elect(group)
        replication.let_standbys_in(group.primary, self._password)
        for server in group.standbys:
            if not self._runner.runs(server.name):
                self._report(f"Postgres {server.name}, a copy of {group.primary.name}")
                replication.clone(server, group.primary, self._password)
                self._runner.spawn(server.command())
                self._runner.wait(server.name, server.wait)

    def _elect(self, group: Group) -> Group:
        """Promote whoever has the most: the former primary is out, and has no successor yet."""
        following = [server for server in (group.primary, *group.standbys) if replication.is_standby(server)]
        has = {server.name: replication.wait_until_read(server) for server in following}
        best = group.server(max(has, key=lambda name: has[name]))
        group = self._keep(group, replace(group.lineup, primary=best.name))
        replication.confirm_by(best, "")
        replication.promote(best)
        return group


def _check_data(group: Group) -> None:
    """Refuse to begin with an empty primary beside standbys that are not, or with two that were primaries.

    Raises:
        Misconfigured: what to do about it.
    """
    there = [server.name for server in group.servers if server.made]
    if there and not group.primary.made:
        out = f"; {', '.join(group.lineup.out)} is out, and has what there was before" if group.lineup.out else ""
        raise Misconfigured(
            f"the data of {group.primary.name}, the primary, is gone, and {', '.join(there)} has data: `memlane nodes "
            f"promote {group.name}` lets a standby take its place{out}"
        )
    for server in group.standbys:
        if server.made and not replication.is_standby(server):
            raise Misconfigured(
                f"{server.name} should follow {group.primary.name}, and has data of its own in {server.data}: if that "
                "is not needed, move it away, and it is copied anew"
            )
