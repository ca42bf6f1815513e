"""Windows: over which time a limit counts. Bounds are Unix milliseconds, UTC."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

_BUCKETS = 60


@dataclass(frozen=True, slots=True)
class SlidingWindow:
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
class CalendarWindow:
    """The current hour, day, ISO week (from Monday) or month."""

    unit: CalendarUnit

    @property
    def name(self) -> str:
        return self.unit.value

    def bounds(self, now_ms: int) -> tuple[int, int, int]:
        """Start and end of the window that holds `now_ms`, and the end of the one after it.

        The ledger's script picks between the two by its own clock, which may be past the caller's.
        """
        start = self._start(datetime.fromtimestamp(now_ms / 1000, UTC))
        end = self._next(start)
        return _ms(start), _ms(end), _ms(self._next(end))

    def first_bucket(self, now_ms: int) -> int:
        """The start of the current window: buckets of calendar windows are named by it."""
        return self.bounds(now_ms)[0]

    def _start(self, now: datetime) -> datetime:
        hour = now.replace(minute=0, second=0, microsecond=0)
        day = hour.replace(hour=0)
        match self.unit:
            case CalendarUnit.HOUR:
                return hour
            case CalendarUnit.DAY:
                return day
            case CalendarUnit.WEEK:
                return day - timedelta(days=day.weekday())
            case CalendarUnit.MONTH:
                return day.replace(day=1)

    def _next(self, start: datetime) -> datetime:
        match self.unit:
            case CalendarUnit.HOUR:
                return start + timedelta(hours=1)
            case CalendarUnit.DAY:
                return start + timedelta(days=1)
            case CalendarUnit.WEEK:
                return start + timedelta(days=7)
            case CalendarUnit.MONTH:
                return (start + timedelta(days=32)).replace(day=1)


@dataclass(frozen=True, slots=True)
class Lifetime:
    """For ever."""

    @property
    def name(self) -> str:
        return "lifetime"

    def first_bucket(self, now_ms: int) -> int:
        """There is one bucket."""
        return 0


@dataclass(frozen=True, slots=True)
class Now:
    """What is open at this moment: the window of concurrency."""

    @property
    def name(self) -> str:
        return "now"

    def first_bucket(self, now_ms: int) -> int:
        """There is one bucket."""
        return 0


Window = SlidingWindow | CalendarWindow | Lifetime | Now


def window_named(name: str) -> Window:
    """The inverse of `Window.name`."""
    if name == "lifetime":
        return Lifetime()
    if name == "now":
        return Now()
    if name in list(CalendarUnit):
        return CalendarWindow(CalendarUnit(name))
    return SlidingWindow(int(name.removesuffix("s")))


def _ms(moment: datetime) -> int:
    return int(moment.timestamp()) * 1000
