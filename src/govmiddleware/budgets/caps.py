"""What a budget allows, what was used of it, and what follows from the two. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from decimal import Decimal, InvalidOperation

import msgspec

from govmiddleware.core.money import LARGEST_LIMIT, nano_usd
from govmiddleware.errors import ConfigurationError

Money = Decimal | str | int
"""USD: exact. A float is not."""

Amount = int | Decimal
"""Tokens or seconds, or USD."""


def usd(value: Money, key: str) -> Decimal:
    """USD as given by code. Raises ConfigurationError for what is no amount, and for a float, which may be another
    amount than it looks like."""
    expected = 'an amount of USD, 0 or more, as a Decimal, a string such as "0.50" or a whole number'
    try:
        amount = Decimal(value) if not isinstance(value, bool | float) else Decimal("nan")
    except (InvalidOperation, TypeError, ValueError):
        amount = Decimal("nan")
    if not amount.is_finite() or amount < 0 or nano_usd(amount) > LARGEST_LIMIT:
        raise ConfigurationError(key, value, expected)
    return amount


def count(value: int, key: str) -> int:
    """Tokens, or seconds. Raises ConfigurationError."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= LARGEST_LIMIT:
        raise ConfigurationError(key, value, f"a whole number from 0 to {LARGEST_LIMIT}")
    return value


@dataclass(frozen=True, slots=True)
class Caps:
    """The most that may be used; what is None has no cap, and `Caps()` has none at all.

    A cap is reached when as much as it was used: the step after that is blocked.

    Attributes:
        max_cost_usd: a Decimal, a string or a whole number; kept as a Decimal.
        max_wall_clock: seconds since the first use.

    Raises ConfigurationError for a cap that is no amount.
    """

    max_tokens: int | None = None
    max_input_tokens: int | None = None
    max_output_tokens: int | None = None
    max_cost_usd: Money | None = None
    max_wall_clock: int | None = None

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if value is not None:
                checked = usd(value, each.name) if each.name == "max_cost_usd" else count(value, each.name)
                object.__setattr__(self, each.name, checked)


def encode(caps: Caps) -> str:
    return msgspec.json.encode(caps).decode()


def decode(text: str) -> Caps:
    return Caps(**msgspec.json.decode(text))


@dataclass(frozen=True, slots=True)
class BudgetUsage:
    """What was used so far.

    Attributes:
        requests: how often something was consumed.
        wall_clock: seconds since the first use.
        caps: those it counts against.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: Decimal = Decimal(0)
    requests: int = 0
    wall_clock: int = 0
    caps: Caps = field(default_factory=Caps)

    @property
    def total_tokens(self) -> int:
        return self.input_tokens + self.output_tokens

    @property
    def maximum(self) -> int | None:
        """Tokens; None without a cap."""
        return self.caps.max_tokens

    @property
    def remaining(self) -> int | None:
        """Tokens, never below 0; None without a cap."""
        return None if self.caps.max_tokens is None else max(0, self.caps.max_tokens - self.total_tokens)

    @property
    def remaining_cost_usd(self) -> Decimal | None:
        """Never below 0; None without a cap."""
        cap = self.caps.max_cost_usd
        return None if cap is None else max(Decimal(0), Decimal(cap) - self.cost_usd)

    def against_caps(self) -> Iterator[tuple[str, str, Amount, Amount]]:
        """Of each cap that there is, in the order in which they are told of: its name, what people call it, the
        amount used and the cap."""
        each = (
            ("max_tokens", "tokens", self.total_tokens, self.caps.max_tokens),
            ("max_input_tokens", "input tokens", self.input_tokens, self.caps.max_input_tokens),
            ("max_output_tokens", "output tokens", self.output_tokens, self.caps.max_output_tokens),
            ("max_cost_usd", "cost", self.cost_usd, self.caps.max_cost_usd),
            ("max_wall_clock", "wall clock", self.wall_clock, self.caps.max_wall_clock),
        )
        for name, words, used, cap in each:
            if cap is not None:
                yield name, words, used, Decimal(cap) if isinstance(cap, str) else cap

    def reached(self) -> str | None:
        """The name of the first cap that is reached."""
        return next((name for name, _, used, cap in self.against_caps() if used >= cap), None)

    def warnings(self, warn_at: Decimal) -> list[str]:
        """`tokens at 83%`, for each cap of which such a part is used."""
        return [
            f"{words} at {_percent(used, cap)}%"
            for _, words, used, cap in self.against_caps()
            if used >= warn_at * cap
        ]


@dataclass(frozen=True, slots=True)
class Step:
    """Whether a step may be made: true where it may.

    Attributes:
        reason: the name of the first cap that is reached: `max_tokens`, `per_user_max_cost_usd`; None where none is.
        warnings: `tokens at 83%`, `per-user cost at 91%`.
        usage: of the user or session, or else of all.
    """

    reason: str | None
    warnings: tuple[str, ...]
    usage: BudgetUsage

    @property
    def allowed(self) -> bool:
        return self.reason is None

    def __bool__(self) -> bool:
        return self.allowed


def _percent(used: Amount, cap: Amount) -> int:
    return int(Decimal(used) * 100 // Decimal(cap)) if cap else 100
