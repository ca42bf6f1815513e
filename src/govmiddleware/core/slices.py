"""A time cut at the turns of the clock or calendar of a time zone, for reports. Unix milliseconds, UTC."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from enum import StrEnum
from itertools import pairwise
from math import gcd

import msgspec

from govmiddleware.core.reports import Span
from govmiddleware.core.windows import CalendarUnit, CalendarWindow

MOST_SLICES = 2500
"""A quarter by the hour, seven years by the day."""

_MINUTE = 60_000
_LONGEST_MONTH = 31 * 86_400_000


class Unit(StrEnum):
    """How long a slice is."""

    MINUTE = "minute"
    HOUR = "hour"
    DAY = "day"
    MONTH = "month"


_RECENT = {Unit.MINUTE: 60, Unit.HOUR: 24, Unit.DAY: 30, Unit.MONTH: 12}
"""How many slices to show of, if nobody says."""


class Slices(msgspec.Struct, frozen=True):
    """Consecutive slices: each ends where the next begins, and `turns` has the end of the last one too.

    The first and the last may be cut short by `since` and `until`.
    """

    turns: tuple[int, ...]
    since: int
    until: int

    def bounds(self) -> list[tuple[int, int]]:
        """Start and end of each, as far as they lie between `since` and `until`."""
        return [(max(start, self.since), min(end, self.until)) for start, end in pairwise(self.turns)]

    def span(self) -> Span:
        """The same time in equal parts, as long as can be for each slice to be made of whole ones."""
        width = gcd(*(end - start for start, end in pairwise(self.turns)))
        return Span(self.since, self.until, self.turns[0], width)

    def number_of(self, part: int) -> int:
        """Of the slice that a part of `span` lies in."""
        span = self.span()
        assert span.width is not None
        return bisect_right(self.turns, span.first + part * span.width) - 1


def cut(unit: Unit, timezone: str, now: int, since: int | None = None, until: int | None = None) -> Slices:
    """The slices from `since` to `until`; by default as many as one looks at, up to the end of the current one.

    Raises ValueError where there is nothing between the two, there are more than MOST_SLICES, or the calendar ends.
    """
    if until is None:
        until = _bounds(unit, timezone, now)[1]
    if since is None:
        recent = _RECENT[unit]
        lengths = {Unit.MINUTE: _MINUTE, Unit.HOUR: 60 * _MINUTE, Unit.DAY: 1440 * _MINUTE}
        back = until - (recent + 2) * lengths.get(unit, _LONGEST_MONTH)
        since = list(_turns(unit, timezone, back, until))[-recent - 1]
    if since >= until:
        raise ValueError("expected until to be after since")
    turns: list[int] = []
    for turn in _turns(unit, timezone, since, until):
        if len(turns) > MOST_SLICES:
            raise ValueError(
                f"expected {MOST_SLICES} buckets at most between since and until: take larger ones than a {unit}, or less time"
            )
        turns.append(turn)
    return Slices(tuple(turns), since, until)


def _turns(unit: Unit, timezone: str, since: int, until: int) -> Iterator[int]:
    """From the last one that is not after `since` to the first that is not before `until`."""
    turn, end = _bounds(unit, timezone, since)
    yield turn
    while turn < until:
        turn, end = end, _bounds(unit, timezone, end)[1]
        yield turn


def _bounds(unit: Unit, timezone: str, at: int) -> tuple[int, int]:
    if unit is Unit.MINUTE:  # the same in all zones
        start = at // _MINUTE * _MINUTE
        return start, start + _MINUTE
    try:
        return CalendarWindow(CalendarUnit(unit), timezone).bounds(at)[:2]
    except (OverflowError, ValueError) as error:
        raise ValueError("expected times within the calendar, which has the years 1 to 9999") from error
