"""CPU seconds of processes and of all that they have started, by what they are; the standard library alone.

The pythons of peers load this file too. It reads /proc: on another system there are no figures.
"""

import os
from collections.abc import Mapping
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PROC = Path("/proc")


def taken(roots: Mapping[int, str]) -> dict[str, float]:
    """CPU seconds so far, user and system, by kind; those of children that have ended are in them.

    Args:
        roots: kinds by process id; a process that is not named is of its parent's kind.
    """
    found = dict.fromkeys(roots.values(), 0.0)
    processes = dict(_processes())
    for pid, (_, seconds) in processes.items():
        kind = _kind(pid, processes, roots)
        if kind is not None:
            found[kind] += seconds
    return found


def since(before: Mapping[str, float], now: Mapping[str, float]) -> dict[str, float]:
    """What was taken between two looks, without what took next to nothing."""
    spent = {kind: round(seconds - before.get(kind, 0.0), 3) for kind, seconds in now.items()}
    return {kind: seconds for kind, seconds in spent.items() if seconds > 0}


def _kind(pid: int, processes: Mapping[int, tuple[int, float]], roots: Mapping[int, str]) -> str | None:
    while pid in processes:
        if pid in roots:
            return roots[pid]
        pid = processes[pid][0]
    return None


def _processes() -> "list[tuple[int, tuple[int, float]]]":
    """Of each process its parent and its CPU seconds; fields 4 and 14 to 17 of proc(5)'s stat."""
    found = []
    for folder in _PROC.glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        found.append((int(folder.name), (int(fields[1]), sum(map(int, fields[11:15])) / _TICKS_PER_S)))
    return found


def children(pid: int) -> list[int]:
    """The processes that a process has started, and that live."""
    return [child for child, (parent, _) in _processes() if parent == pid]
