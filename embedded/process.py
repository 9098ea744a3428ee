"""A child process that ends with its parent, writes its own log, and may run under another user."""

import ctypes
import os
import pwd
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict

_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class Command:
    """What to start.

    Attributes:
        name: also the name of its log.
        argv: program and arguments; no secrets, since anybody may list processes.
        env: added to the environment.
        user: the user to run as, if it is not ours.
        end_signal: what asks it to end in good order.
        needed: whether a stack without it is no stack.
        orphan_signal: what the kernel sends it when its parent is gone, even by SIGKILL (Linux only).
    """

    name: str
    argv: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    user: str | None = None
    end_signal: signal.Signals = signal.SIGTERM
    needed: bool = True
    orphan_signal: signal.Signals = signal.SIGKILL


def spawn(command: Command, log: Path) -> subprocess.Popen[bytes]:
    """Start a command in a session of its own; its output is appended to a log that only we may read."""
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        return subprocess.Popen(
            command.argv,
            env={**os.environ, **command.env},
            stdin=subprocess.DEVNULL,
            stdout=descriptor,
            stderr=descriptor,
            start_new_session=True,
            preexec_fn=_die_with_parent(command.orphan_signal, os.getpid()),  # noqa: PLW1509  # only system calls in it
            **as_user(command.user),
        )
    finally:
        os.close(descriptor)


def run(command: Command) -> "subprocess.CompletedProcess[str]":
    """Run a command to its end, and keep what it says."""
    return subprocess.run(
        command.argv,
        env={**os.environ, **command.env},
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
        **as_user(command.user),
    )


class _User(TypedDict):
    user: int | None
    group: int | None
    extra_groups: list[str | int] | None


def as_user(name: str | None) -> _User:
    """Arguments of subprocess that run a program under another user, or under ours."""
    if name is None:
        return {"user": None, "group": None, "extra_groups": None}
    entry = pwd.getpwnam(name)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def _die_with_parent(orphan_signal: signal.Signals, parent: int) -> Callable[[], None] | None:
    """Set the parent-death signal; it has to come after the change of user, which clears it."""
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None, use_errno=True)

    def set_signal() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, int(orphan_signal))
        if os.getppid() != parent:  # it went in between
            os.kill(os.getpid(), signal.SIGKILL)

    return set_signal
