"""Markdown: the tables of the reference pages."""

import re
from collections.abc import Iterable, Sequence


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; empty text without rows, so that no heading stands alone."""
    lines = [_row(row) for row in rows]
    return "\n".join([_row(columns), "|---" * len(columns) + "|", *lines, ""]) if lines else ""


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(_cell(text) for text in cells)} |"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def code(text: str) -> str:
    """Text as it is typed; nothing for nothing."""
    return f"`{text}`" if text else ""


def block(language: str, *lines: str) -> str:
    """Lines as they stand; nothing without lines."""
    return "\n".join([f"```{language}", *lines, "```"]) if lines else ""


def page(*parts: str) -> str:
    """A page, or a part of one, of parts, with one empty line between them."""
    return re.sub(r"\n{3,}", "\n\n", "\n\n".join(part.strip("\n") for part in parts if part)) + "\n"
