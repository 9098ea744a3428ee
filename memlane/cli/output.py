"""What the command line prints: tables and lines for people, one JSON document with --json."""

import json
import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from memlane.contract import wire


class Output:
    """Where a command's words go: results to standard output, the rest to standard error."""

    def __init__(self, as_json: bool = False) -> None:
        self.as_json = as_json
        self._out = Console(highlight=False)
        self._err = Console(stderr=True, highlight=False)

    @property
    def terminal(self) -> bool:
        """Whether a person looks on."""
        return sys.stdin.isatty() and sys.stdout.isatty()

    def result(self, value: object, text: "str | RenderableType | Sequence[str | RenderableType]") -> None:
        """A command's result: the value as JSON, or its text for people."""
        if self.as_json:
            sys.stdout.write(json.dumps(json.loads(wire.dump(value)), indent=2) + "\n")
            return
        for part in text if isinstance(text, list | tuple) else [text]:
            if isinstance(part, str):
                self._out.print(part, markup=False, soft_wrap=True)
            else:
                self._out.print(part)

    def line(self, text: str) -> None:
        """A line beside the result; not with --json."""
        if not self.as_json:
            self._err.print(text)

    def warn(self, text: str) -> None:
        """A line that matters, also with --json."""
        self._err.print(text, style="yellow", markup=False, soft_wrap=True)

    def progress(self, what: str) -> Progress:
        """A progress bar on standard error."""
        columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        return Progress(*columns, console=self._err, disable=self.as_json, transient=False)


_WHOLE = ("id", "score", "when", "day", "from", "anew", "budget")
"""Columns whose cells are kept in one line."""


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> Table:
    """A table for people; numbers stand to the right."""
    made = Table(title=title, title_justify="left", header_style="bold")
    for index, column in enumerate(columns):
        numeric = bool(rows) and all(isinstance(row[index], int | float) for row in rows)
        made.add_column(column, justify="right" if numeric else "left", overflow="fold", no_wrap=column in _WHOLE)
    for row in rows:
        made.add_row(*("" if cell is None else escape(str(cell)) for cell in row))
    return made


def escape(text: str) -> str:
    """Text that rich prints as it is."""
    return text.replace("[", r"\[")
