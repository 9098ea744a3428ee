"""Markdown: the tables of the reference pages."""

import re
from collections.abc import Iterable, Sequence
from html import escape


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; empty text without rows, so that no heading stands alone."""
    lines = [_row(row) for row in rows]
    return "\n".join([_row(columns), "|---" * len(columns) + "|", *lines, ""]) if lines else ""


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(_cell(text) for text in cells)} |"


def _cell(text: str) -> str:
    """Text in one line, without a sign that would end the cell."""
    typed = re.sub(r"`([^`]*\|[^`]*)`", lambda found: code(found[1]), " ".join(text.split()))
    return typed.replace("|", "&#124;")


def code(text: str) -> str:
    """Text as it is typed; nothing for nothing. What ends a cell is not the same everywhere, but for its number."""
    if "|" in text:
        return f"<code>{escape(text, quote=False).replace('|', '&#124;')}</code>"
    return f"`{text}`" if text else ""


def block(language: str, *lines: str) -> str:
    """Lines as they stand; nothing without lines."""
    return "\n".join([f"```{language}", *lines, "```"]) if lines else ""


def page(*parts: str) -> str:
    """A page, or a part of one, of parts, with one empty line between them."""
    return re.sub(r"\n{3,}", "\n\n", "\n\n".join(part.strip("\n") for part in parts if part)) + "\n"
