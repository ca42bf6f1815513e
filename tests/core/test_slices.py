"""Slices of time follow the clock and the calendar of a zone, and are made of equal parts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from govmiddleware.core.slices import MOST_SLICES, Slices, Unit, cut

HOUR = 3_600_000


def ms(text: str, zone: str = "UTC") -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp() * 1000)


def hours(slices: Slices) -> list[float]:
    return [(end - start) / HOUR for start, end in slices.bounds()]


@pytest.mark.parametrize(
    ("unit", "zone", "since", "until", "expected"),
    [
        (Unit.DAY, "Europe/Berlin", "2026-03-28", "2026-03-31", [24, 23, 24]),
        (Unit.DAY, "Europe/Berlin", "2026-10-24", "2026-10-27", [24, 25, 24]),
        (Unit.DAY, "UTC", "2026-03-28", "2026-03-31", [24, 24, 24]),
        (Unit.DAY, "Australia/Lord_Howe", "2026-04-04", "2026-04-06", [24, 24.5]),
        (Unit.MONTH, "Europe/Berlin", "2026-02-01", "2026-05-01", [28 * 24, 31 * 24 - 1, 30 * 24]),
        (Unit.HOUR, "Europe/Berlin", "2026-10-25", "2026-10-26", [1] * 25),
        (Unit.HOUR, "Asia/Kolkata", "2026-01-01", "2026-01-02", [1] * 24),
        (Unit.MINUTE, "Asia/Kolkata", "2026-01-01T00:00", "2026-01-01T00:03", [1 / 60] * 3),
    ],
)
def test_a_slice_is_as_long_as_the_clock_says(
    unit: Unit, zone: str, since: str, until: str, expected: list[float]
) -> None:
    assert hours(cut(unit, zone, 0, ms(since, zone), ms(until, zone))) == pytest.approx(expected)


def test_the_first_and_the_last_are_cut_where_somebody_says() -> None:
    slices = cut(Unit.DAY, "UTC", 0, ms("2026-01-01T06:00"), ms("2026-01-02T18:00"))
    assert hours(slices) == [18, 18]
    assert (slices.since, slices.until) == (slices.bounds()[0][0], slices.bounds()[-1][1])


@pytest.mark.parametrize(("unit", "count"), [("minute", 60), ("hour", 24), ("day", 30), ("month", 12)])
@pytest.mark.parametrize("now", ["2026-01-31T23:59:59", "2026-03-01", "2026-10-25T02:30"])
def test_by_default_it_is_the_recent_past_up_to_the_end_of_now(unit: str, count: int, now: str) -> None:
    at = ms(now, "Europe/Berlin")
    slices = cut(Unit(unit), "Europe/Berlin", at)
    assert len(slices.bounds()) == count
    start, end = slices.bounds()[-1]
    assert start <= at < end


def test_what_cannot_be_cut_is_said() -> None:
    now = ms("2026-01-01")
    with pytest.raises(ValueError, match="expected until to be after since"):
        cut(Unit.DAY, "UTC", now, now, now)
    with pytest.raises(ValueError, match=f"expected {MOST_SLICES} buckets at most"):
        cut(Unit.MINUTE, "UTC", now, 0, now)
    assert len(cut(Unit.HOUR, "UTC", now, now - MOST_SLICES * HOUR, now).bounds()) == MOST_SLICES


@given(
    unit=st.sampled_from([Unit.HOUR, Unit.DAY, Unit.MONTH]),
    zone=st.sampled_from(
        ["UTC", "Europe/Berlin", "Australia/Lord_Howe", "Asia/Kathmandu", "America/St_Johns", "Pacific/Apia"]
    ),
    since=st.datetimes(datetime(2005, 1, 1), datetime(2030, 1, 1)),
    length=st.integers(1, 60),
    place=st.floats(0, 1, exclude_max=True),
)
def test_every_moment_lies_in_a_part_that_is_wholly_in_its_slice(
    unit: Unit, zone: str, since: datetime, length: int, place: float
) -> None:
    start = round(since.replace(tzinfo=UTC).timestamp() * 1000)
    days = {Unit.HOUR: timedelta(hours=1), Unit.DAY: timedelta(days=1), Unit.MONTH: timedelta(days=30)}
    slices = cut(unit, zone, 0, start, start + length * round(days[unit].total_seconds() * 1000))
    moment = slices.since + int(place * (slices.until - slices.since))
    part = slices.span().slice_of(moment)
    assert part is not None
    first, last = slices.bounds()[slices.number_of(part)]
    assert first <= moment < last
    span = slices.span()
    assert span.width is not None
    assert all((turn - span.first) % span.width == 0 for turn in slices.turns)


@pytest.mark.parametrize(
    ("unit", "zone", "since"),
    [
        (Unit.HOUR, "America/New_York", "0001-01-01"),
        (Unit.DAY, "America/New_York", "0001-01-01"),
        (Unit.DAY, "UTC", "9999-12-31"),
        (Unit.MONTH, "Europe/Berlin", "9999-12-31"),
    ],
)
def test_where_the_calendar_ends_there_is_no_slice(unit: Unit, zone: str, since: str) -> None:
    with pytest.raises(ValueError, match="calendar"):
        cut(unit, zone, 0, ms(since), ms(since) + 23 * HOUR)
