"""Money as people write it, and as they read it: exact, and never more or less than it is."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memlane.contract.money import dollars, exact, micro
from memlane.errors import InvalidInput


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        *(("5", 5_000_000), ("5.00", 5_000_000), ("$5", 5_000_000), (" 0.02 ", 20_000), (".5", 500_000)),
        *(("0", 0), ("0.000001", 1), ("1234567.891234", 1_234_567_891_234), ("0.1", 100_000), ("0.29", 290_000)),
    ],
)
def test_dollars_are_read_to_the_last_place(text: str, amount: int) -> None:
    assert micro(text) == amount


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "-5", "+5", "5,00", "1,000", "5.0000001", "1e3", "nan", "inf", "5 dollars", "$", ".", "5.", "0x5"),
        *("\u0665", "5 0", "$$5", "5\n5", "9" * 400),
    ],
)
def test_what_is_no_amount_is_refused_by_name(text: str) -> None:
    with pytest.raises(InvalidInput, match=r"--price: .*no amount in dollars"):
        micro(text, "--price")


@given(st.integers(0, 10**17))
def test_what_was_set_is_shown_as_it_was_set(amount: int) -> None:
    assert micro(exact(amount).replace(",", "")) == amount


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        *((0, "$0.00"), (1, "$0.000001"), (0.02, "$0.00000002"), (969.8, "$0.00097"), (4_010_000, "$4.01")),
        *((20_000, "$0.02"), (123_456, "$0.123"), (999_999, "$1.00"), (1_234_567_890, "$1,234.57"), (5e6, "$5.00")),
    ],
)
def test_what_was_spent_is_shown_in_few_digits(amount: float, text: str) -> None:
    assert dollars(amount) == text


@given(st.floats(1e-6, 1e12))
def test_what_is_shown_is_not_far_off(amount: float) -> None:
    shown = Decimal(dollars(amount).removeprefix("$").replace(",", ""))
    assert shown > 0
    allowed = Decimal(5001) if amount >= 10**6 else Decimal(amount) / 150
    assert abs(shown * 10**6 - Decimal(amount)) <= allowed
