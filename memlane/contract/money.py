"""Money: written in dollars, counted in micro-dollars."""

import re
from decimal import Decimal

from memlane.errors import FieldError, InvalidInput

MICRO = 1_000_000
"""Micro-dollars of a dollar."""

_DOLLARS = re.compile(r"\$?(\d{1,12}(?:\.\d{1,6})?|\.\d{1,6})", re.ASCII)

_DIGITS = 3
"""How many digits of an amount under a dollar are told."""


def micro(text: str, field: str = "amount") -> int:
    """Dollars as people write them, `5`, `5.00` or `$0.02`, in micro-dollars; exactly.

    Args:
        text: what was written.
        field: what it is called where it is wrong.

    Raises:
        InvalidInput: it is no amount, or has more than six places.
    """
    match = _DOLLARS.fullmatch(text.strip())
    if match is None:
        raise InvalidInput(
            [FieldError(field, f"{text!r} is no amount in dollars: write 5, 5.00 or 0.02, with at most six places")]
        )
    return int(Decimal(match[1]) * MICRO)


def dollars(amount_micro: float) -> str:
    """An amount for people: to the cent from a dollar on, under it to three digits, and never as nothing if it is some.

    Args:
        amount_micro: in micro-dollars, with their fractions.
    """
    amount = Decimal(repr(float(amount_micro))) / MICRO
    if abs(amount) >= 1 or not amount:
        return f"${amount:,.2f}"
    places = _DIGITS - 1 - amount.adjusted()
    return f"${_short(f'{amount:.{places}f}')}"


def exact(amount_micro: int) -> str:
    """An amount that somebody set, to its last digit."""
    return f"${_short(f'{Decimal(amount_micro) / MICRO:,.6f}')}"


def _short(text: str) -> str:
    """Without the zeros at its end; the cents stay."""
    whole, _, places = text.partition(".")
    return f"{whole}.{places.rstrip('0'):0<2}"
