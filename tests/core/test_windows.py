"""Windows of time, in milliseconds of UTC."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from govmiddleware.core.windows import (
    CalendarUnit,
    CalendarWindow,
    Lifetime,
    Now,
    SlidingWindow,
    window_named,
)

MOMENTS = st.integers(0, 4_102_444_800_000)


def ms(*date: int) -> int:
    return int(datetime(*date, tzinfo=UTC).timestamp() * 1000)  # type: ignore[misc, arg-type]


@pytest.mark.parametrize(
    ("unit", "start", "end", "following"),
    [
        ("hour", (2028, 2, 29, 23), (2028, 3, 1), (2028, 3, 1, 1)),
        ("day", (2028, 2, 29), (2028, 3, 1), (2028, 3, 2)),
        ("week", (2028, 2, 28), (2028, 3, 6), (2028, 3, 13)),
        ("month", (2028, 2, 1), (2028, 3, 1), (2028, 4, 1)),
    ],
)
def test_the_bounds_of_calendar_windows(unit, start, end, following) -> None:
    window = CalendarWindow(CalendarUnit(unit))
    now = ms(2028, 2, 29, 23, 59, 59)
    assert window.bounds(now) == (ms(*start), ms(*end), ms(*following))
    assert window.first_bucket(now) == ms(*start)


@given(st.sampled_from(CalendarUnit), MOMENTS)
def test_calendar_windows_follow_one_another_without_a_gap(unit: CalendarUnit, now: int) -> None:
    window = CalendarWindow(unit)
    start, end, following = window.bounds(now)
    assert start <= now < end < following
    assert window.bounds(start)[0] == window.bounds(end - 1)[0] == start
    assert window.bounds(end)[:2] == (end, following)


@given(st.integers(1, 31 * 86400), MOMENTS)
def test_a_sliding_window_counts_every_bucket_that_any_of_it_touches(seconds: int, now: int) -> None:
    window = SlidingWindow(seconds)
    first = window.first_bucket(now)
    assert first * window.bucket_ms <= now - seconds * 1000
    assert (first + 2) * window.bucket_ms > now - seconds * 1000, "and few more: at most two buckets"
    assert window.bucket_count * window.bucket_ms >= seconds * 1000
    assert window.bucket_count <= 63, (
        "buckets of a sixtieth, a little shorter where it is no whole millisecond"
    )


def test_a_bucket_is_about_a_sixtieth() -> None:
    assert [SlidingWindow(seconds).bucket_ms for seconds in (1, 60, 3600)] == [16, 1000, 60_000]


@pytest.mark.parametrize(
    "window", [SlidingWindow(90), *map(CalendarWindow, CalendarUnit), Lifetime(), Now()], ids=lambda w: w.name
)
def test_a_window_can_be_found_again_by_its_name(window) -> None:
    assert window_named(window.name) == window


def test_lifetime_and_now_have_one_bucket() -> None:
    assert Lifetime().first_bucket(10**15) == Now().first_bucket(10**15) == 0
