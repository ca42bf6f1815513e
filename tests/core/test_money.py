"""Money is whole nano-USD."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from govmiddleware.core.money import LARGEST_LIMIT, nano_usd, usd_text


@pytest.mark.parametrize(
    ("usd", "nano"),
    [
        (0.1, 100_000_000),
        ("0.000000001", 1),
        (Decimal("1.5"), 1_500_000_000),
        (3, 3_000_000_000),
        ("0.0000000005", 0),  # half to even
        ("0.0000000015", 2),
        ("-0.25", -250_000_000),
        (1e-9, 1),
    ],
)
def test_usd_become_nano_usd_as_they_print_rounded_half_to_even(usd, nano) -> None:
    assert nano_usd(usd) == nano


@pytest.mark.parametrize(
    ("nano", "text"),
    [(0, "0.000000000"), (1, "0.000000001"), (-1, "-0.000000001"), (1_500_000_000, "1.500000000")],
)
def test_outputs_have_nine_places(nano, text) -> None:
    assert usd_text(nano) == text


@given(st.integers(-LARGEST_LIMIT, LARGEST_LIMIT))
def test_what_is_shown_can_be_read_back(nano: int) -> None:
    assert nano_usd(usd_text(nano)) == nano
    assert len(usd_text(nano).partition(".")[2]) == 9


def test_the_largest_limit_is_exact_in_a_double_three_times_over() -> None:
    assert int(float(LARGEST_LIMIT)) == LARGEST_LIMIT
    assert int(float(2 * LARGEST_LIMIT - 1)) == 2 * LARGEST_LIMIT - 1
