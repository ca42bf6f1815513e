"""Local time: when the dates and the clock hours of an IANA time zone begin, in Unix seconds."""

from __future__ import annotations

from datetime import date, datetime, time
from functools import cache
from zoneinfo import ZoneInfo, available_timezones

_HOUR = 3600


def is_timezone(name: str) -> bool:
    """Whether it is a name of the IANA database, and means the same on every machine."""
    return name in _names()


@cache
def _names() -> frozenset[str]:
    return frozenset(available_timezones() - {"localtime"})


def date_at(second: int, zone: ZoneInfo) -> date:
    """What the calendar shows."""
    return datetime.fromtimestamp(second, zone).date()


def start_of_date(day: date, zone: ZoneInfo) -> int:
    """The first instant at which the calendar shows this date, or a later one where it was skipped.

    Where midnight comes twice it is the first; where there is none, the instant of the change that skips it.
    """
    midnight = datetime.combine(day, time.min, zone)
    first, again = int(midnight.timestamp()), int(midnight.replace(fold=1).timestamp())
    # In a gap the two are read the other way round (PEP 495), and the change lies between them.
    return first if first <= again else _change(again, first, zone)


def hour_at(second: int, zone: ZoneInfo) -> tuple[int, int]:
    """Start and end of the clock hour: it begins when the clock strikes, and whenever it is set."""
    offset = _offset(second, zone)
    start = second - (second + offset) % _HOUR
    end = start + _HOUR
    if _offset(start, zone) != offset:
        start = _change(start, second, zone)
    if _offset(end - 1, zone) != offset:
        end = _change(second, end - 1, zone)
    return start, end


def _offset(second: int, zone: ZoneInfo) -> int:
    offset = datetime.fromtimestamp(second, zone).utcoffset()
    assert offset is not None, "a ZoneInfo always has one"
    return int(offset.total_seconds())


def _change(before: int, after: int, zone: ZoneInfo) -> int:
    """The first second whose offset from UTC is that of `after` and not of `before`, one change between."""
    old = _offset(before, zone)
    while after - before > 1:
        middle = (before + after) // 2
        if _offset(middle, zone) == old:
            before = middle
        else:
            after = middle
    return after
