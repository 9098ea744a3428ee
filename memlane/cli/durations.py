"""Durations as people write them: 90s, 30m, 24h, 7d."""

import re

import typer

_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}


def seconds(text: str) -> float:
    """A duration in seconds; 0 needs no unit.

    Raises:
        BadParameter: it is none.
    """
    match = re.fullmatch(r"(\d{1,9})([smhd]?)", text.strip())
    if match is None or (not match[2] and int(match[1])):
        raise typer.BadParameter(f"{text!r} is no duration: write 90s, 30m, 24h or 7d")
    return float(int(match[1]) * _SECONDS[match[2]])
