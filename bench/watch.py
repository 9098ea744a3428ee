"""Whether the system's looks at itself are fast enough, and what they bring.

    python -m memlane.bench.watch [--part patterns] [--short] [--json FILE]

Postgres, Redis and a provider are started in a temporary directory for it, for the duties' share a whole stack.
"""

import argparse
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memlane.bench import duties, patterns, warm
from memlane.bench.bare import Bare, bare
from memlane.bench.output import publish, say
from memlane.config.logging import configure_logging
from memlane.config.settings import load_settings


@dataclass(frozen=True, slots=True)
class Part:
    """A part of it: measured on servers that are up, told in Markdown; what was found says whether it is good."""

    measure: Callable[..., Any]
    report: Callable[[Any], str]


PARTS: Mapping[str, Part] = {
    "patterns": Part(patterns.measure, patterns.report),
    "warm": Part(warm.measure, warm.report),
    "duties": Part(duties.measure, duties.report),
}


def measure(names: list[str], *, short: bool) -> dict[str, Any]:
    """Measure parts, one after the other."""
    with bare() as here:
        return {name: _measured(here, name, short=short) for name in names}


def _measured(here: Bare, name: str, *, short: bool) -> Any:  # each part has figures of its own
    say(f"{name}:")
    return PARTS[name].measure(here, short=short, progress=say)


def main() -> None:
    """Measure once, and print; the exit code is 1 if a figure is not good enough."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--part", choices=PARTS, action="append", help="only this; may be repeated")
    parser.add_argument("--short", action="store_true", help="a minute, to see that it works")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write one JSON document as well")
    given = parser.parse_args()
    configure_logging(load_settings(nodes={"none": "postgresql://none"}, log_level="ERROR"))
    found = measure(given.part or list(PARTS), short=given.short)
    publish(found, "\n".join(PARTS[name].report(one) for name, one in found.items()), given.json)
    sys.exit(not all(one.good for one in found.values()))


if __name__ == "__main__":
    main()
