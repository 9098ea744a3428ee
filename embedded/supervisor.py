"""The supervisor: starts a stack in order, watches it, starts again what ends, and stops everything.

Whatever becomes of the supervisor, its children do not outlive it: the kernel ends them with it.
"""

import os
import signal
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from time import monotonic, sleep
from types import FrameType

import structlog

from memlane.config.settings import EmbedderName
from memlane.embedded.folder import ProcessState, StackState
from memlane.embedded.nodes import Nodes
from memlane.embedded.process import Command, spawn
from memlane.embedded.stack import TENANT, Stack
from memlane.errors import MemlaneError, Misconfigured, Unauthorized
from memlane.storage import tenants
from memlane.storage.migrator import migrate
from memlane.tasks import batch_embed
from memlane.tasks.embedders import model_of
from memlane.tasks.lane import Lane

log = structlog.get_logger(__name__)

Report = Callable[[str], None]
"""Told what is being done, for a progress display."""

_READY_S = 60.0
"""How long a process of ours may take to be ready."""

_PATIENCE_S = 5.0
"""How much longer a process is waited for without which the stack works."""

_STOP_S = 30.0
"""How long a process may take to end in good order."""

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 10.0
"""Pause before a process is started again; doubles while it does not stay up."""

_OUT_S = 5.0
"""How long a server that has to go may take, before it is killed."""

_STEADY_S = 30.0
"""A process that was up so long is not in a loop of crashes."""

_TRIES = 5
"""How often a process may end before it was ever ready."""


@dataclass
class Child:
    """A process that is watched."""

    command: Command
    log: Path
    process: subprocess.Popen[bytes]
    started: float = field(default_factory=monotonic)
    restarts: int = 0
    pause_s: float = _FIRST_PAUSE_S
    start_again_at: float | None = None

    @property
    def up(self) -> bool:
        """Whether it runs."""
        return self.process.poll() is None

    def last_words(self) -> str:
        """The end of its log."""
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return "\n".join(lines[-12:])


class Supervisor:
    """Runs one stack. Call everything from the main thread, whose death the children die of."""

    def __init__(self, stack: Stack, report: Report) -> None:
        self._stack = stack
        self._report = report
        self._children: dict[str, Child] = {}
        self._nodes = Nodes(stack, self, report)
        self._stop = Event()
        self._hurry = False
        self._ready = False

    def start(self) -> None:
        """Start everything and wait until requests are served.

        Raises:
            Misconfigured: something did not start; the message has the end of its log.
        """
        stack = self._stack
        self._tell()
        self._report("Redis")
        stack.redis.prepare()
        self.spawn(stack.redis.command())
        self.start_nodes()
        self.wait("redis", stack.redis.wait)
        self._report("schema")
        self._set_up()
        self._nodes.begin_to_confirm()
        self._report("workers, beats, gateway and Flower")
        for command in stack.processes():
            self.spawn(command)
        self._wait_ready(command.name for command in stack.processes() if command.needed)
        self._wait_a_little(command.name for command in stack.processes() if not command.needed)
        self._ready = True
        self._tell()

    def start_nodes(self) -> None:
        """Start the Postgres nodes and wait until they answer.

        Raises:
            Misconfigured: one did not start; the message has the end of its log.
        """
        self._nodes.start()

    def watch(self) -> None:
        """Watch the children, and start again what ends, until somebody asks to stop."""
        while not self._stop.wait(0.2):
            self.look()

    def look(self) -> None:
        """Look after each child once."""
        if self._nodes.obey_lineup():
            self._tell()
        for child in self._children.values():
            if child.up:
                if monotonic() - child.started > _STEADY_S:
                    child.pause_s = _FIRST_PAUSE_S
            elif child.start_again_at is None:
                log.warning("process.ended", name=child.command.name, code=child.process.returncode)
                child.start_again_at = monotonic() + child.pause_s
                child.pause_s = min(2 * child.pause_s, _LONGEST_PAUSE_S)
                self._tell()
            elif monotonic() >= child.start_again_at:
                self._start_again(child)

    def runs(self, name: str) -> bool:
        """Whether a process is watched."""
        return name in self._children

    def send_out(self, name: str) -> None:
        """Stop a server at once: what it has not sent to its standbys by now, nobody was told is written."""
        child = self._children.pop(name)
        if child.up:
            child.process.send_signal(signal.SIGQUIT)
            try:
                child.process.wait(_OUT_S)
            except subprocess.TimeoutExpired:
                child.process.kill()
                child.process.wait()

    def stop(self) -> None:
        """Stop everything: first what takes work in, then what does it, then the servers."""
        self._nodes.stop()
        groups = [
            [c for c in self._children.values() if c.command.name.startswith(("gateway", "beat", "flower"))],
            [c for c in self._children.values() if c.command.name.startswith("worker")],
            [c for c in self._children.values() if c.command.name == "redis"],
            [c for c in self._children.values() if c.command.name.startswith("node")],
        ]
        for group in groups:
            for child in group:
                if child.up:
                    child.process.send_signal(child.command.end_signal)
            self._wait_ended(group)
        self._stack.folder.drop_state()

    def ask_to_stop(self, _signal: int = 0, _frame: FrameType | None = None) -> None:
        """End `watch`; asked twice, `stop` does not wait any longer."""
        self._hurry = self._stop.is_set()
        self._stop.set()

    @property
    def stopping(self) -> bool:
        """Whether somebody asked to stop."""
        return self._stop.is_set()

    def handle_signals(self) -> None:
        """SIGINT and SIGTERM ask to stop."""
        signal.signal(signal.SIGINT, self.ask_to_stop)
        signal.signal(signal.SIGTERM, self.ask_to_stop)

    def spawn(self, command: Command) -> None:
        """Start a process, and watch it."""
        log_file = self._stack.folder.logs / f"{command.name}.log"
        _ready_file(self._stack, command.name).unlink(missing_ok=True)
        self._children[command.name] = Child(command, log_file, spawn(command, log_file))

    def _start_again(self, child: Child) -> None:
        _ready_file(self._stack, child.command.name).unlink(missing_ok=True)
        child.process = spawn(child.command, child.log)
        child.started = monotonic()
        child.start_again_at = None
        child.restarts += 1
        log.warning("process.started_again", name=child.command.name, restarts=child.restarts)
        self._tell()

    def _set_up(self) -> None:
        """Schema, tenant and keys; and where the model is another than last time, jobs for the new vectors."""
        settings = self._stack.settings()
        if settings.embedder is EmbedderName.MINILM:
            from memlane.tasks.embedders import minilm

            minilm.convert(minilm.find_weights(settings), settings.model_cache)
        migrated = migrate(settings, model_of(settings), post=True)
        for group in self._nodes.groups:
            group.primary.let_in(self._stack.passwords)
        lane = Lane(settings, "supervisor")
        lane.open()
        try:
            control = lane.cluster.control
            tenants.create_tenant(control, TENANT)
            for key, tenant in ((self._stack.secrets.tenant_key, TENANT), (self._stack.secrets.admin_key, None)):
                try:
                    tenants.authenticate(control, key)
                except Unauthorized:
                    tenants.create_key(control, tenant, "made by memlane up", key)
            if migrated.lacking and (opened := batch_embed.backfill(lane)):
                self._report(f"{opened} memories get vectors of model {lane.model.name}")
        finally:
            lane.close()

    def _wait_ready(self, names: Iterable[str]) -> None:
        waiting = set(names)
        deadline = monotonic() + _READY_S
        while waiting:
            if self._stop.is_set():
                raise Misconfigured("stopped while starting")
            self.look()
            for name in list(waiting):
                child = self._children[name]
                if _ready_file(self._stack, name).exists():
                    waiting.discard(name)
                elif child.restarts >= _TRIES or monotonic() > deadline:
                    raise Misconfigured(f"{name} did not get ready; the end of {child.log}:\n{child.last_words()}")
            sleep(0.05)

    def _wait_a_little(self, names: Iterable[str]) -> None:
        """Wait for what the stack can do without; if that does not come, go on, and start it again all the same."""
        deadline = monotonic() + _PATIENCE_S
        for name in names:
            while not (ready := _ready_file(self._stack, name).exists()) and monotonic() < deadline:
                if self._stop.is_set():
                    return
                self.look()
                sleep(0.05)
            if not ready:
                self._report(f"{name} is not ready; see {self._children[name].log}")

    def wait(self, name: str, wait: Callable[[subprocess.Popen[bytes]], None]) -> None:
        """Wait until a process answers.

        Raises:
            Misconfigured: it does not; the message has the end of its log.
        """
        child = self._children[name]
        try:
            wait(child.process)
        except MemlaneError as error:
            raise Misconfigured(f"{error}; the end of {child.log}:\n{child.last_words()}") from None

    def _wait_ended(self, group: list[Child]) -> None:
        deadline = monotonic() + _STOP_S
        for child in group:
            while child.up and monotonic() < deadline and not self._hurry:
                sleep(0.02)
            if child.up:
                log.warning("process.killed", name=child.command.name)
                child.process.kill()
            child.process.wait()

    def _tell(self) -> None:
        stack = self._stack
        stack.folder.keep_state(
            StackState(
                pid=os.getpid(),
                ready=self._ready,
                url=stack.url,
                nodes={group.name: group.address for group in stack.nodes},
                redis=f"127.0.0.1:{stack.redis.port}",
                flower=stack.flower_url,
                processes=[
                    ProcessState(child.command.name, child.process.pid, child.up, child.restarts)
                    for child in self._children.values()
                ],
            )
        )


def _ready_file(stack: Stack, name: str) -> Path:
    return stack.folder.run / f"{name}.ready"
