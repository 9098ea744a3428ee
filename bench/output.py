"""What a benchmark says: its progress on standard error, its report on standard output, all of it as JSON in a file."""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from memlane.bench.figures import Circumstances
from memlane.contract import wire

Progress = Callable[[str], None]
"""Told each step."""


def say(line: str) -> None:
    """How far it is."""
    print(line, file=sys.stderr, flush=True)  # noqa: T201


def publish(found: object, report: str, file: Path | None) -> None:
    """Print the report, and write everything to a file if one is named."""
    if file is not None:
        file.write_bytes(wire.dump(found) + b"\n")
    sys.stdout.write(report)


def told(here: Circumstances, versions: Mapping[str, str]) -> tuple[str, str, str]:
    """Three lines on what figures rest on: the machine, the servers, and what they promise to keep."""
    return (
        f"- {here.machine}; {here.at:%Y-%m-%d %H:%M} UTC",
        f"- {', '.join(f'{name} {version}' for name, version in versions.items())}; Python {here.python}",
        f"- {', '.join(f'{name} {value}' for name, value in here.durability.items())}",
    )
