"""What budgets are made of, and the books made from it."""

from __future__ import annotations

from typing import TypedDict

from govmiddleware.budgets.book import Book
from govmiddleware.budgets.caps import Caps, Money
from govmiddleware.core.prices import PriceBook

WORKSPACE = "default"
WARN_AT = 0.8
MOST_MEMBERS = 100_000
IDLE_SECONDS = 86_400.0


class BudgetOptions(TypedDict, total=False):
    """Of a budget; see `Caps` for the caps. `per_user_` ones hold for each user by itself.

    workspace: where it is counted; `default`.
    warn_at: the part of a cap from which on steps carry a warning; 0.8.
    max_users, idle_seconds: a user not used for so long is forgotten (a day; None: never), and beyond so many
        (100,000) the one not used for the longest.
    """

    workspace: str
    max_tokens: int | None
    max_input_tokens: int | None
    max_output_tokens: int | None
    max_cost_usd: Money | None
    max_wall_clock: int | None
    per_user_max_tokens: int | None
    per_user_max_input_tokens: int | None
    per_user_max_output_tokens: int | None
    per_user_max_cost_usd: Money | None
    per_user_max_wall_clock: int | None
    warn_at: float
    max_users: int
    idle_seconds: float | None


class SessionOptions(TypedDict, total=False):
    """Of session budgets.

    workspace, warn_at: as for a budget.
    default: the caps of new sessions; none.
    max_sessions, idle_seconds: as for users.
    """

    workspace: str
    default: Caps
    warn_at: float
    max_sessions: int
    idle_seconds: float | None


def budget_book(name: str, prices: PriceBook, options: BudgetOptions) -> Book:
    """Raises ConfigurationError, and TypeError for an option that does not exist."""
    _check(options, BudgetOptions)
    return Book(
        "user",
        name,
        workspace=options.get("workspace", WORKSPACE),
        whole=Caps(
            options.get("max_tokens"),
            options.get("max_input_tokens"),
            options.get("max_output_tokens"),
            options.get("max_cost_usd"),
            options.get("max_wall_clock"),
        ),
        each=Caps(
            options.get("per_user_max_tokens"),
            options.get("per_user_max_input_tokens"),
            options.get("per_user_max_output_tokens"),
            options.get("per_user_max_cost_usd"),
            options.get("per_user_max_wall_clock"),
        ),
        warn_at=options.get("warn_at", WARN_AT),
        most=options.get("max_users", MOST_MEMBERS),
        idle_seconds=options.get("idle_seconds", IDLE_SECONDS),
        prices=prices,
    )


def session_book(name: str, prices: PriceBook, options: SessionOptions) -> Book:
    """Raises ConfigurationError, and TypeError for an option that does not exist."""
    _check(options, SessionOptions)
    return Book(
        "session",
        name,
        workspace=options.get("workspace", WORKSPACE),
        whole=None,
        each=options.get("default", Caps()),
        warn_at=options.get("warn_at", WARN_AT),
        most=options.get("max_sessions", MOST_MEMBERS),
        idle_seconds=options.get("idle_seconds", IDLE_SECONDS),
        prices=prices,
    )


def _check(options: BudgetOptions | SessionOptions, known: type) -> None:
    """A misspelt cap must not be no cap."""
    for name in options.keys() - known.__annotations__.keys():
        raise TypeError(f"{name} is no option of a budget; there are {', '.join(known.__annotations__)}")
