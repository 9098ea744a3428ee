"""Whether the tests notice when a safeguard is gone: `python -m tests.faults.mutants`.

Each is switched off in a copy of the tree, and the tests that should notice are run there. Ends with 1 if one survives,
and writes the table of the docs.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from memlane.reference.markdown import code, page, table
from tests.faults.safeguards import MUTANTS, Mutant

ROOT = Path(__file__).parents[2]

PAGE = ROOT / "docs" / "reference" / "mutants.md"

_HEAD = """# Safeguards

Each of these was switched off in a copy of the tree, by a removal of a line or two, and tests were run there until one
failed. `make mutants` does it again; a safeguard whose absence nobody notices makes it fail."""

_LEFT_OUT = shutil.ignore_patterns(
    ".git", ".venv", ".mypy_cache", ".ruff_cache", ".pytest_cache", "__pycache__", "site"
)

_LONGEST_S = 900
"""How long tests may take in a copy; most are done within a minute."""


@dataclass(frozen=True)
class Verdict:
    """What became of a mutant.

    Attributes:
        mutant: the safeguard that was off.
        noticed_by: the first test that failed; None if all passed, or they could not be run.
        took_s: how long it took to decide.
        said: the end of what the tests said.
    """

    mutant: Mutant
    noticed_by: str | None
    took_s: float
    said: str

    @property
    def unnoticed(self) -> str:
        """Why nobody has noticed: all tests passed, or they could not be run."""
        return "NOBODY NOTICED" if re.search(r"^\d+ passed", self.said, re.MULTILINE) else "NOT DECIDED"


def main() -> int:
    """Decide all mutants, or those whose names are given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="of safeguards; all unless given, and then the page is written")
    given = parser.parse_args()
    wanted = [mutant for mutant in MUTANTS if not given.names or mutant.name in given.names]
    for mutant in MUTANTS:
        mutant.applied((ROOT / mutant.path).read_text())
    verdicts = [_decided(mutant) for mutant in wanted]
    survivors = [verdict for verdict in verdicts if verdict.noticed_by is None]
    if not given.names and not survivors:
        PAGE.write_text(_page(verdicts))
    for verdict in survivors:
        _say(f"\n{verdict.mutant.name}: {verdict.unnoticed}\n{verdict.said}")
    return 1 if survivors else 0


def _decided(mutant: Mutant) -> Verdict:
    verdict = _judge(mutant)
    _say(f"{verdict.took_s:5.0f} s  {mutant.name}: {verdict.noticed_by or verdict.unnoticed}")
    return verdict


def _judge(mutant: Mutant) -> Verdict:
    begun = monotonic()
    with _copy() as tree:
        path = tree / mutant.path
        path.write_text(mutant.applied(path.read_text()))
        said = _run(tree, [test for test in mutant.tests if (tree / test.partition("::")[0]).exists()])
    failed = re.search(r"^FAILED (\S+)", said, re.MULTILINE)
    return Verdict(mutant, failed[1] if failed else None, monotonic() - begun, said[-2000:])


@contextmanager
def _copy() -> Iterator[Path]:
    """A copy of the tree that may be spoiled."""
    with tempfile.TemporaryDirectory(prefix="memlane-mutant-") as folder:
        tree = Path(folder) / "tree"
        shutil.copytree(ROOT, tree, symlinks=True, ignore=_LEFT_OUT)
        yield tree


def _run(tree: Path, tests: Sequence[str]) -> str:
    """What the tests say that are run in a tree; a test that only waits too long has failed as well."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-rf", "-p", "no:cacheprovider", "-p", "no:randomly", *tests]
    environment = {**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(
            command, cwd=tree, env=environment, capture_output=True, text=True, check=False, timeout=_LONGEST_S
        )
    except subprocess.TimeoutExpired:
        return f"the tests were not done after {_LONGEST_S} s"
    return done.stdout + done.stderr


def _page(verdicts: Sequence[Verdict]) -> str:
    rows = [(one.mutant.name, one.mutant.meaning, code(one.noticed_by or "")) for one in verdicts]
    return page(_HEAD, table(("safeguard", "without it", "noticed by"), rows))


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
