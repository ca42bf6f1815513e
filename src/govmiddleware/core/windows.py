"""Windows: over which time a limit counts. Bounds are Unix milliseconds, UTC."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, timedelta
from enum import StrEnum
from itertools import count
from zoneinfo import ZoneInfo

import msgspec

from govmiddleware.core.local_time import date_at, hour_at, start_of_date

UTC = "UTC"

_BUCKETS = 60


class SlidingWindow(msgspec.Struct, frozen=True):
    """The last `seconds` seconds, kept in buckets of about a sixtieth of them.

    A bucket that the window covers in part counts whole, so that no interval of this length ever
    holds more than the limit; a steady load still gets at least 95 % of it.
    """

    seconds: int

    @property
    def name(self) -> str:
        return f"{self.seconds}s"

    @property
    def bucket_ms(self) -> int:
        return max(1, self.seconds * 1000 // _BUCKETS)

    @property
    def bucket_count(self) -> int:
        """How many whole buckets back an amount can still touch the window."""
        return -(-self.seconds * 1000 // self.bucket_ms)

    def first_bucket(self, now_ms: int) -> int:
        """The oldest bucket that still counts."""
        return now_ms // self.bucket_ms - self.bucket_count


class CalendarUnit(StrEnum):
    HOUR = "hour"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"


@dataclass(frozen=True, slots=True)
class ResettingWindow(ABC):
    """What ends at a moment of the calendar, when the next one begins.

    Windows of one kind tile time: each instant lies in exactly one. They follow the local clock:

    - A date begins when the calendar first shows it. Where the clock is set back over midnight, what it shows
      again of the day before belongs to the new day; a date that the zone skipped has no window.
    - An hour is one of the local clock. It begins when the clock strikes, and whenever it is set: one that
      comes twice is two windows, one that is cut short is a shorter one.
    """

    _last: tuple[int, int, int] = field(default=(0, 0, 0), init=False, repr=False, compare=False)
    """The bounds last asked for. Replaced as a whole, so that threads may share it."""

    def bounds(self, now_ms: int) -> tuple[int, int, int]:
        """Start and end of the window that holds `now_ms`, and the end of the one after it.

        The ledger's script picks between the two by its own clock, which may be past the caller's.
        """
        found = self._last
        if not found[0] <= now_ms < found[1]:
            start, end, following = self._bounds_at(now_ms // 1000)
            found = start * 1000, end * 1000, following * 1000
            object.__setattr__(self, "_last", found)
        return found

    def first_bucket(self, now_ms: int) -> int:
        """The start of the current window: its bucket is named by it."""
        return self.bounds(now_ms)[0]

    @abstractmethod
    def _bounds_at(self, second: int) -> tuple[int, int, int]:
        """As `bounds`, in seconds."""


@dataclass(frozen=True, slots=True)
class CalendarWindow(ResettingWindow):
    """The current hour, day, ISO week (from Monday) or month, in an IANA time zone."""

    unit: CalendarUnit
    timezone: str = UTC

    @property
    def name(self) -> str:
        """`month`, or `month@Europe/Berlin`."""
        return self.unit.value + _zone_suffix(self.timezone)

    def _bounds_at(self, second: int) -> tuple[int, int, int]:
        zone = ZoneInfo(self.timezone)
        if self.unit is CalendarUnit.HOUR:
            start, end = hour_at(second, zone)
            return start, end, hour_at(end, zone)[1]
        return _bounds_between(self._dates(date_at(second, zone)), second, zone)

    def _dates(self, day: date) -> Iterator[date]:
        """The first dates of the windows, from the one on that holds `day`."""
        match self.unit:
            case CalendarUnit.WEEK:
                return _every(7, day - timedelta(days=day.weekday()))
            case CalendarUnit.MONTH:
                return _months(day)
            case _:
                return _every(1, day)


@dataclass(frozen=True, slots=True)
class PeriodWindow(ResettingWindow):
    """The current one of the periods of so many days, one of which begins with the date `anchor`."""

    days: int
    anchor: date
    timezone: str = UTC

    @property
    def name(self) -> str:
        """`30d@2026-01-01`, or `30d@2026-01-01@Europe/Berlin`."""
        return f"{self.days}d@{self.anchor.isoformat()}{_zone_suffix(self.timezone)}"

    def _bounds_at(self, second: int) -> tuple[int, int, int]:
        zone = ZoneInfo(self.timezone)
        day = date_at(second, zone)
        into = (day - self.anchor).days % self.days
        return _bounds_between(_every(self.days, day - timedelta(days=into)), second, zone)


class Lifetime(msgspec.Struct, frozen=True):
    """For ever."""

    @property
    def name(self) -> str:
        return "lifetime"

    def first_bucket(self, now_ms: int) -> int:
        """There is one bucket."""
        return 0


class Now(msgspec.Struct, frozen=True):
    """What is open at this moment: the window of concurrency."""

    @property
    def name(self) -> str:
        return "now"

    def first_bucket(self, now_ms: int) -> int:
        """There is one bucket."""
        return 0


Window = SlidingWindow | CalendarWindow | PeriodWindow | Lifetime | Now


def window_named(name: str) -> Window:
    """The inverse of `Window.name`."""
    match name.split("@"):
        case ["lifetime"]:
            return Lifetime()
        case ["now"]:
            return Now()
        case [unit, *zone] if unit in list(CalendarUnit):
            return CalendarWindow(CalendarUnit(unit), *zone)
        case [days, anchor, *zone]:
            return PeriodWindow(int(days.removesuffix("d")), date.fromisoformat(anchor), *zone)
        case _:
            return SlidingWindow(int(name.removesuffix("s")))


def _zone_suffix(timezone: str) -> str:
    return "" if timezone == UTC else f"@{timezone}"


def _every(days: int, first: date) -> Iterator[date]:
    return (first + timedelta(days=passed) for passed in count(0, days))


def _months(day: date) -> Iterator[date]:
    for month in count(day.month - 1):
        yield date(day.year + month // 12, month % 12 + 1, 1)


def _bounds_between(dates: Iterator[date], second: int, zone: ZoneInfo) -> tuple[int, int, int]:
    """Those of the window around `second`, and the end of the next; `dates` are the first ones of windows, the
    first of them no later than `second`."""
    starts = (start_of_date(day, zone) for day in dates)
    start = end = next(starts)
    while end <= second:  # twice where the clock was set back over midnight, or a date was skipped
        start, end = end, next(starts)
    return start, end, next(following for following in starts if following > end)
