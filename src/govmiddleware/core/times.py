"""Moments, as people and programs write them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def parse_time(text: str) -> datetime:
    """RFC 3339 (without a zone: UTC), a date, or how long ago: `30m`, `24h`, `7d`, `2w`.

    Raises ValueError.
    """
    try:
        return datetime.now(UTC) - parse_duration(text)
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(
            f"{text!r} is no time: write 2026-01-31, 2026-01-31T12:00:00Z or how long ago, such as 24h or 7d"
        ) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def parse_duration(text: str) -> timedelta:
    """`30m`, `24h`, `7d` or `2w`. Raises ValueError."""
    match = re.fullmatch(r"(\d{1,6})([mhdw])", text)
    if match is None:
        raise ValueError(f"{text!r} is no duration: write 30m, 24h, 7d or 2w")
    return timedelta(**{_UNITS[match[2]]: int(match[1])})
