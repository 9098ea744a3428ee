"""Flame graphs: where a process spends its time under load, as py-spy sees it, small enough to stand in the docs."""

import subprocess
import sysconfig
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

_RATE = 100
"""Samples a second."""
_WIDTH, _ROW = 960, 17
_LEAST = 0.004
"""The share of all below which a frame is left out."""
_DEEPEST = 60
_COLOURS = {"memlane": "#e8710a", "psycopg": "#3b82f6", "celery": "#16a34a", "kombu": "#16a34a", "billiard": "#16a34a"}
_OTHERS = "#94a3b8"

Stack = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Flames:
    """Samples of processes of one kind.

    Attributes:
        name: of the kind.
        stacks: how often each stack was seen, the outermost frame first.
    """

    name: str
    stacks: Mapping[Stack, int]

    @property
    def samples(self) -> int:
        """All of them."""
        return sum(self.stacks.values())

    def top(self, count: int, begins: str) -> list[tuple[str, float]]:
        """The frames that were most often somewhere in a stack, of those whose file begins so, with their share."""
        seen: Counter[str] = Counter()
        for stack, times in self.stacks.items():
            for frame in set(stack):
                seen[frame] += times if begins in frame else 0
        return [(frame, times / max(1, self.samples)) for frame, times in seen.most_common(count) if times]


@dataclass(slots=True)
class _Frame:
    """A frame with what it calls."""

    samples: int = 0
    inside: "dict[str, _Frame]" = field(default_factory=dict)


def record(name: str, pids: Sequence[int], seconds: float) -> Flames:
    """Sample processes for a while; only what holds the GIL is counted: Python at work, not what waits.

    Raises:
        CalledProcessError: py-spy may not look at a process: it has to be one's own, or one has to be root.
    """
    spy = Path(sysconfig.get_path("scripts")) / "py-spy"
    with tempfile.TemporaryDirectory() as folder:
        files = {pid: Path(folder) / str(pid) for pid in pids}
        running = [
            subprocess.Popen(
                [
                    *(str(spy), "record", "--pid", str(pid), "--duration", str(int(seconds)), "--rate", str(_RATE)),
                    *("--gil", "--format", "raw", "--function", "--output", str(file)),
                ],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            for pid, file in files.items()
        ]
        for process in running:
            if process.wait() != 0:
                raise subprocess.CalledProcessError(process.returncode, "py-spy")
        stacks: Counter[Stack] = Counter()
        for file in files.values():
            for line in file.read_text().splitlines():
                frames, _, times = line.rpartition(" ")
                stacks[tuple(_short(frame) for frame in frames.split(";"))] += int(times)
    return Flames(name, stacks)


def drawing(found: Flames) -> str:
    """A flame graph as SVG: what calls is below what it calls, as wide as it takes time; a frame tells its share."""
    root = _Frame(found.samples)
    for stack, times in found.stacks.items():
        frame = root
        for name in stack[:_DEEPEST]:
            frame = frame.inside.setdefault(name, _Frame())
            frame.samples += times
    rectangles = list(_rectangles(root, 0.0, 0, max(1, found.samples)))
    deepest = max((depth for _, _, depth, _ in rectangles), default=0)
    height = (deepest + 2) * _ROW + 8
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img" '
        f'font-family="ui-monospace, monospace" font-size="10"><title>{escape(found.name)}</title>'
    )
    parts = [_drawn(one, height) for one in rectangles]
    return "\n".join([head, f'<text x="4" y="13" fill="#808890">{escape(found.name)}</text>', *parts, "</svg>", ""])


def _rectangles(frame: _Frame, left: float, depth: int, all_: int) -> Iterator[tuple[str, float, int, float]]:
    """Name, left edge, depth and width as a share of all, of each frame that is wide enough."""
    for name, inner in sorted(frame.inside.items()):
        share = inner.samples / all_
        if share >= _LEAST:
            yield name, left, depth, share
            yield from _rectangles(inner, left, depth + 1, all_)
        left += share


def _drawn(one: tuple[str, float, int, float], height: float) -> str:
    name, left, depth, share = one
    x, y, width = left * _WIDTH, height - (depth + 1) * _ROW - 4, share * _WIDTH
    colour = next((colour for begins, colour in _COLOURS.items() if f"({begins}" in name), _OTHERS)
    room = int((width - 4) / 6.1)
    label = name.partition(" (")[0]
    words = label if len(label) <= room else f"{label[: room - 1]}…" if room > 3 else ""
    box = (
        f'<rect x="{x:.1f}" y="{y:g}" width="{max(0.5, width - 0.5):.1f}" height="{_ROW - 1}" fill="{colour}" rx="1"/>'
    )
    text = f'<text x="{x + 2:.1f}" y="{y + 11:g}" fill="#111">{escape(words)}</text>' if words else ""
    return f"<g><title>{escape(name)}: {share:.1%}</title>{box}{text}</g>"


def _short(frame: str) -> str:
    """A frame with its file as Python knows it, without where that is installed."""
    name, _, file = frame.partition(" (")
    path = file.rstrip(")")
    for mark in ("site-packages/", "/lib/python3"):
        path = path.rpartition(mark)[2]
    for folder in ("storage", "tasks", "workers", "gateway", "beat", "config"):
        if f"/memlane/{folder}/" in path or path.startswith(f"{folder}/"):
            path = f"memlane/{folder}/{path.rpartition(f'{folder}/')[2]}"
    return f"{name} ({path.lstrip('/')})"
