"""Windows in every time zone tile time exactly, as an oracle that knows of offsets alone has them.

The oracle finds by search when a zone's clock is set, and between two such changes counts with a fixed offset.
"""

from __future__ import annotations

import threading
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from functools import cache
from itertools import pairwise
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from govmiddleware.core.local_time import is_timezone
from govmiddleware.core.windows import (
    CalendarUnit,
    CalendarWindow,
    PeriodWindow,
    ResettingWindow,
    window_named,
)

ZONES = sorted(available_timezones() - {"localtime"})
HOUR, DAY = 3600, 86400


def second(*moment: int) -> int:
    return int(datetime(*moment, tzinfo=UTC).timestamp())  # type: ignore[misc, arg-type]


SINCE, UNTIL = second(2025, 1, 1), second(2028, 1, 1)
MARGIN = 40 * DAY
"""On both sides of the three years: the windows at their ends reach beyond them."""

Segments = tuple[tuple[int, int, int], ...]
"""Start, end and offset of the times between two changes of a clock."""


def segments(name: str, since: int, until: int) -> Segments:
    """Looked up week by week; where two of them differ, the second of the change is searched."""
    zone = ZoneInfo(name)

    def offset(at: int) -> timedelta | None:
        return datetime.fromtimestamp(at, zone).utcoffset()

    looks = [(at, offset(at)) for at in (*range(since, until, 7 * DAY), until)]
    found, start = [], since
    for (low, before), (high, after) in pairwise(looks):
        if before != after:
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (middle, high) if offset(middle) == before else (low, middle)
            found.append((start, high, before))
            start = high
    found.append((start, until, looks[-1][1]))
    return tuple((start, end, int(ahead.total_seconds())) for start, end, ahead in found if ahead is not None)


def start_of(day: date, clock: Segments) -> int:
    """The first second at which the calendar shows this date or a later one."""
    midnight = second(day.year, day.month, day.day)
    return next(max(start, midnight - ahead) for start, end, ahead in clock if midnight - ahead < end)


def starts_of(days: Iterable[date], clock: Segments) -> list[int]:
    return sorted({start_of(day, clock) for day in days})


def hours_of(clock: Segments) -> list[int]:
    """When the clock strikes, and when it is set."""
    strikes = {at for start, end, ahead in clock for at in range(start + (-start - ahead) % HOUR, end, HOUR)}
    return sorted(strikes | {start for start, _, _ in clock[1:]})


@cache
def clocks() -> dict[Segments, str]:
    """One zone for each way in which clocks go in these years: all others go as one of them does."""
    found: dict[Segments, str] = {}
    for zone in ZONES:
        found.setdefault(segments(zone, SINCE - MARGIN, UNTIL + MARGIN), zone)
    return found


def dates(step: int = 1, first: date = date(2024, 11, 25)) -> list[date]:
    """`first` and the dates after it, to some time after the three years."""
    return [first + timedelta(days=passed) for passed in range(0, 3 * 366 + 60, step)]


def assert_tiled(window: ResettingWindow, starts: list[int], clock: Segments) -> None:
    """The windows of the three years begin at `starts`, whichever moment of them one asks at."""
    changes = [start for start, _, _ in clock[1:]]
    for start, end, following in zip(starts, starts[1:], starts[2:], strict=False):
        if not SINCE <= start < UNTIL:
            continue
        bounds = start * 1000, end * 1000, following * 1000
        assert window.bounds(start * 1000) == bounds, (window, start)
        for change in changes[bisect_right(changes, start) : bisect_right(changes, end)]:
            for moment in (change - 1, change, end - 1):
                if start <= moment < end:
                    fresh = window_named(window.name)
                    assert isinstance(fresh, ResettingWindow)
                    assert fresh.bounds(moment * 1000 + 999) == bounds, (window, moment)


def test_the_oracle_sees_the_clocks_that_are_set() -> None:
    assert len(ZONES) > 400
    assert 30 < len(clocks()) < len(ZONES)
    assert [len(segments(zone, SINCE, UNTIL)) for zone in ("UTC", "Europe/Berlin")] == [1, 7]


def test_days_tile_time_in_every_zone() -> None:
    for clock, zone in clocks().items():
        window = CalendarWindow(CalendarUnit.DAY, zone)
        starts = starts_of(dates(), clock)
        assert_tiled(window, starts, clock)
        lengths = {after - before for before, after in pairwise(starts) if SINCE <= before < UNTIL}
        assert DAY in lengths
        assert lengths <= {DAY + minutes * 60 for minutes in (-120, -60, -30, 0, 30, 60, 120)}, zone


def test_weeks_and_months_tile_time_in_every_zone() -> None:
    months = [date(year, month, 1) for year in range(2024, 2029) for month in range(1, 13)]
    months = [month for month in months if date(2024, 12, 1) <= month <= date(2028, 2, 1)]
    for clock, zone in clocks().items():
        assert_tiled(CalendarWindow(CalendarUnit.WEEK, zone), starts_of(dates(7), clock), clock)
        assert_tiled(CalendarWindow(CalendarUnit.MONTH, zone), starts_of(months, clock), clock)


@pytest.mark.parametrize("anchor", [date(2024, 11, 25), date(2026, 6, 15), date(2040, 2, 29)])
def test_periods_tile_time_in_every_zone_before_their_anchor_too(anchor: date) -> None:
    first = date(2024, 11, 25) + timedelta(days=(anchor - date(2024, 11, 25)).days % 30)
    for clock, zone in clocks().items():
        starts = starts_of(dates(30, first - timedelta(days=30)), clock)
        assert_tiled(PeriodWindow(30, anchor, zone), starts, clock)


def test_hours_tile_time_around_every_change_of_every_clock() -> None:
    for clock, zone in clocks().items():
        window = CalendarWindow(CalendarUnit.HOUR, zone)
        starts = hours_of(clock)
        for change, _, _ in clock[1:]:
            near = slice(bisect_left(starts, change - 3 * DAY), bisect_right(starts, change + 3 * DAY))
            assert_tiled(window, starts[near], clock)


@settings(deadline=None)  # the first look at a zone reads its file
@given(st.sampled_from(ZONES), st.sampled_from(CalendarUnit), st.integers(0, second(2037, 12, 1)))
def test_windows_follow_one_another_at_any_time(zone: str, unit: CalendarUnit, now: int) -> None:
    window = CalendarWindow(unit, zone)
    start, end, following = window.bounds(now * 1000)
    assert start <= now * 1000 < end < following
    assert CalendarWindow(unit, zone).bounds(start) == (start, end, following)
    assert CalendarWindow(unit, zone).bounds(end)[:2] == (end, following)


# Clocks that do odd things ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("zone", "day", "start", "hours"),
    [
        ("Europe/Berlin", (2026, 3, 29), (2026, 3, 28, 23), 23),
        ("Europe/Berlin", (2026, 10, 25), (2026, 10, 24, 22), 25),
        ("Africa/Cairo", (2026, 4, 24), (2026, 4, 23, 22), 23),  # there is no midnight
        ("America/Havana", (2026, 11, 1), (2026, 11, 1, 4), 25),  # midnight comes twice
        ("Australia/Lord_Howe", (2026, 4, 5), (2026, 4, 4, 13), 24.5),
        ("America/St_Johns", (2010, 11, 7), (2010, 11, 7, 2, 30), 25),  # at 00:01 set back to 23:01
        ("America/Toronto", (1919, 3, 31), (1919, 3, 31, 4, 30), 23.5),  # 23:30 was 00:30
        ("Pacific/Apia", (2011, 12, 29), (2011, 12, 29, 10), 24),
        ("Pacific/Apia", (2011, 12, 31), (2011, 12, 30, 10), 24),  # there was no 30th
    ],
)
def test_days_of_clocks_that_are_set(zone: str, day: tuple[int, ...], start: tuple[int, ...], hours) -> None:
    noon = datetime(*day, 12, tzinfo=ZoneInfo(zone))  # type: ignore[misc, arg-type]
    found = CalendarWindow(CalendarUnit.DAY, zone).bounds(int(noon.timestamp()) * 1000)
    assert (found[0] // 1000, (found[1] - found[0]) / 1000 / HOUR) == (second(*start), hours)


def test_a_day_that_has_begun_does_not_end_when_the_clock_goes_back_over_midnight() -> None:
    window = CalendarWindow(CalendarUnit.DAY, "America/St_Johns")
    bounds = {window.bounds(second(2010, 11, 7, 2, 30 + minute) * 1000) for minute in range(30)}
    assert len(bounds) == 1, "the calendar shows the 7th, after a minute the 6th again, then the 7th"


def test_a_date_that_was_skipped_has_no_window() -> None:
    leap = second(2011, 12, 30, 10) * 1000
    for window in (CalendarWindow(CalendarUnit.DAY, "Pacific/Apia"), PeriodWindow(1, date(2011, 12, 30))):
        window = window if window.timezone != "UTC" else PeriodWindow(1, window.anchor, "Pacific/Apia")  # type: ignore[union-attr]
        assert window.bounds(leap - 1) == (leap - DAY * 1000, leap, leap + DAY * 1000)
        assert window.bounds(leap) == (leap, leap + DAY * 1000, leap + 2 * DAY * 1000)


@pytest.mark.parametrize(
    ("zone", "since", "minutes"),
    [
        ("Europe/Berlin", (2026, 3, 29, 0), [60, 60, 60]),  # 1, 3, 4 o'clock
        ("Europe/Berlin", (2026, 10, 25, 0), [60, 60, 60]),  # 2, 2 and 3 o'clock
        ("Australia/Lord_Howe", (2026, 4, 4, 14), [60, 30, 60]),  # 1, again from half past, 2
        ("Australia/Lord_Howe", (2026, 10, 3, 14, 30), [60, 30, 60]),  # 1, 2 from half past, 3
        ("Asia/Kathmandu", (2026, 1, 1, 0, 15), [60, 60, 60]),
    ],
)
def test_hours_of_clocks_that_are_set(zone: str, since: tuple[int, ...], minutes: list[int]) -> None:
    start, end, following = CalendarWindow(CalendarUnit.HOUR, zone).bounds(second(*since) * 1000)
    third = CalendarWindow(CalendarUnit.HOUR, zone).bounds(following)
    assert start == second(*since) * 1000
    assert [end - start, following - end, third[1] - third[0]] == [length * 60_000 for length in minutes]


# Names --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("window", "name"),
    [
        (CalendarWindow(CalendarUnit.MONTH), "month"),
        (CalendarWindow(CalendarUnit.HOUR, "Asia/Kathmandu"), "hour@Asia/Kathmandu"),
        (PeriodWindow(30, date(2026, 1, 1)), "30d@2026-01-01"),
        (PeriodWindow(7, date(2026, 1, 1), "Etc/GMT+5"), "7d@2026-01-01@Etc/GMT+5"),
    ],
)
def test_names_say_zone_and_anchor_and_can_be_read_again(window: ResettingWindow, name: str) -> None:
    assert window.name == name  # type: ignore[attr-defined]
    assert window_named(name) == window


@settings(deadline=None)  # the first look at a zone reads its file
@given(st.sampled_from(ZONES), st.integers(1, 3660), st.dates())
def test_every_name_can_be_read_again_and_has_no_colon(zone: str, days: int, anchor: date) -> None:
    windows = [PeriodWindow(days, anchor, zone), *(CalendarWindow(unit, zone) for unit in CalendarUnit)]
    assert [window_named(window.name) for window in windows] == windows
    assert not any(":" in window.name for window in windows)


def test_zones_are_those_of_the_database() -> None:
    assert all(map(is_timezone, ("UTC", "Europe/Berlin", "Etc/GMT+5")))
    assert not any(map(is_timezone, ("", "Europe", "europe/berlin", "../etc/passwd", "localtime", "CET1")))


# What is kept -------------------------------------------------------------------------------------


def test_threads_that_ask_at_different_times_get_their_own_answers() -> None:
    window = CalendarWindow(CalendarUnit.DAY, "Europe/Berlin")
    moments = [second(2026, month, 15) * 1000 for month in range(1, 5)]
    wrong: list[int] = []

    def ask(moment: int) -> None:
        expected = CalendarWindow(CalendarUnit.DAY, "Europe/Berlin").bounds(moment)
        wrong.extend(moment for _ in range(2000) if window.bounds(moment) != expected)

    threads = [threading.Thread(target=ask, args=[moment]) for moment in moments]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
