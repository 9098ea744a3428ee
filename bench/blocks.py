"""Blocks of the docs that a command writes: the lines between two marks of one name."""

from pathlib import Path


def write(page: Path, name: str, text: str) -> None:
    """Put a text in the place of what stands in a block of a page.

    Raises:
        LookupError: the page has no such block.
    """
    begins, ends = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, mark, rest = page.read_text().partition(begins)
    _, end, after = rest.partition(ends)
    if not mark or not end:
        raise LookupError(f"{page} has no block {name}")
    page.write_text(f"{before}{begins}\n\n{text.strip()}\n\n{ends}{after}")
