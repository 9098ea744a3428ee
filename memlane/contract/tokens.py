"""Tokens: how many a text has at most, for those who cannot ask its tokenizer."""

_FRAME = 4
"""Tokens beside those of its bytes that a text may have: what a tokenizer puts before and after it."""


def bound(text: str) -> int:
    """How many tokens a text has at most.

    A vocabulary of bytes, or one that falls back to bytes, makes no more tokens of a text than it has bytes in UTF-8,
    beside a few that frame it.
    """
    return len(text.encode()) + _FRAME
