"""Kinds of fields that several settings have, and what a mistake in them is told."""

from __future__ import annotations

import re
from typing import Annotated

from limits import RateLimitItem, parse_many
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from govmiddleware.core.attribution import LONGEST_NAME
from govmiddleware.core.scopes import PLAIN_NAME


class Frozen(BaseModel):
    """A table of the settings: none of its fields changes, and there are no others."""

    # What reads it is built when it is first used: that of most tables is part of the whole settings' own.
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


def check_workspace(name: str) -> str:
    """A workspace's name, which stands in the store's keys. Raises ValueError."""
    if not re.fullmatch(PLAIN_NAME, name):
        raise ValueError("a workspace name: 1 to 64 letters, digits, dots, dashes or underscores")
    return name


def check_name(text: str) -> str:
    """A name that counts may be kept under. Raises ValueError."""
    if not (0 < len(text) <= LONGEST_NAME and text.isprintable()):
        raise ValueError(f"1 to {LONGEST_NAME} printable characters")
    return text


def parsed_rate(text: str) -> RateLimitItem:
    """One rate in the notation of the `limits` package. Raises ValueError."""
    expected = "a whole number above 0 per second, minute, hour or day, such as 60/minute or 100/5 minutes"
    try:
        items = parse_many(text)
    except ValueError:
        raise ValueError(expected) from None
    # The notation also has lists of rates; a limit is one.
    if len(items) > 1 or items[0].amount < 1 or not 1 <= items[0].get_expiry() <= 31 * 86400:
        raise ValueError(expected)
    return items[0]


def _plain_name(text: str) -> str:
    if not re.fullmatch(PLAIN_NAME, text):
        raise ValueError("1 to 64 letters, digits, dots, dashes or underscores")
    return text


def _rate(text: str) -> str:
    parsed_rate(text)
    return text


def no_bool(value: object) -> object:
    """Raises ValueError for what pydantic would take for 1 or 0."""
    if isinstance(value, bool):
        raise ValueError("a number")
    return value


WorkspaceName = Annotated[str, AfterValidator(check_workspace)]
Name = Annotated[str, AfterValidator(check_name)]
PlainName = Annotated[str, AfterValidator(_plain_name)]
Rate = Annotated[str, AfterValidator(_rate)]
Positive = Annotated[float, BeforeValidator(no_bool), Field(gt=0, allow_inf_nan=False)]
PositiveInt = Annotated[int, BeforeValidator(no_bool), Field(gt=0)]
