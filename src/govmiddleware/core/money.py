"""Money is an integer of nano-USD (1e-9 USD). Floats never hold it."""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Decimal
from typing import NewType

NanoUSD = NewType("NanoUSD", int)

NANO = 1_000_000_000

LARGEST_LIMIT = 2**52
"""The largest hard value a limit may have, in its own unit. Lua numbers are doubles, exact below
2^53; with limits up to 2^52, used + reserved + amount of one admission stays exact."""


def nano_usd(value: Decimal | str | int | float) -> NanoUSD:
    """USD to nano-USD, half-even. A float is read as it prints, so that 0.1 means 0.1."""
    if isinstance(value, str) and value[-10:-9] == ".":  # as `usd_text` writes it
        digits = value[:-10] + value[-9:]
        if digits.isdecimal():
            return NanoUSD(int(digits))
    exact = value if isinstance(value, Decimal) else Decimal(str(value))
    return NanoUSD(int((exact * NANO).to_integral_value(ROUND_HALF_EVEN)))


def usd_text(amount: int) -> str:
    """nano-USD to the decimal string with 9 places that every output uses.

    >>> usd_text(1_500_000)
    '0.001500000'
    """
    if amount < 0:
        return "-" + usd_text(-amount)
    digits = str(amount).zfill(10)
    return f"{digits[:-9]}.{digits[-9:]}"
