"""Moments, as people and programs write them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import overload

_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_LONGEST = timedelta(days=36525)
"""Much beyond it, calendars end."""


def parse_time(text: str) -> datetime:
    """RFC 3339 (without a zone: UTC), a date, or how long ago: `30m`, `24h`, `7d`, `2w`. In UTC.

    Raises ValueError.
    """
    try:
        return datetime.now(UTC) - parse_duration(text)
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(
            f"{text!r} is no time: write 2026-01-31, 2026-01-31T12:00:00Z or how long ago, such as 24h or 7d"
        ) from None


def parse_duration(text: str) -> timedelta:
    """`30m`, `24h`, `7d` or `2w`, up to a hundred years. Raises ValueError."""
    match = re.fullmatch(r"([0-9]{1,8})([mhdw])", text)
    duration = timedelta(**{_UNITS[match[2]]: int(match[1])}) if match else None
    if duration is None or duration > _LONGEST:
        raise ValueError(f"{text!r} is no duration: write 30m, 24h, 7d or 2w, a hundred years at most")
    return duration


@overload
def rfc3339(moment: datetime | int) -> str: ...
@overload
def rfc3339(moment: None) -> None: ...
@overload
def rfc3339(moment: datetime | int | None) -> str | None: ...
def rfc3339(moment: datetime | int | None) -> str | None:
    """In UTC, with a fraction of the second where it has one. Numbers are Unix milliseconds; None stays None.

    >>> rfc3339(1_767_225_600_000)
    '2026-01-01T00:00:00Z'
    """
    if moment is None:
        return None
    if isinstance(moment, int):
        moment = datetime.fromtimestamp(moment / 1000, UTC)
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
