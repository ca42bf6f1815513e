"""Moments, as people and programs write them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from govmiddleware.core.times import parse_duration, parse_time


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-01-31", datetime(2026, 1, 31, tzinfo=UTC)),
        ("2026-01-31T12:30:00Z", datetime(2026, 1, 31, 12, 30, tzinfo=UTC)),
        ("2026-01-31T12:30:00", datetime(2026, 1, 31, 12, 30, tzinfo=UTC)),
        ("2026-01-31T12:30:00+02:00", datetime(2026, 1, 31, 10, 30, tzinfo=UTC)),
        ("2026-01-31T12:30:00.250Z", datetime(2026, 1, 31, 12, 30, 0, 250_000, tzinfo=UTC)),
    ],
)
def test_a_moment_is_in_utc(text, moment) -> None:
    found = parse_time(text)
    assert found == moment
    assert found.utcoffset() == timedelta(0)


@pytest.mark.parametrize(
    ("text", "ago"),
    [
        ("30m", timedelta(minutes=30)),
        ("24h", timedelta(hours=24)),
        ("7d", timedelta(days=7)),
        ("2w", timedelta(weeks=2)),
    ],
)
def test_how_long_ago(text, ago) -> None:
    before = datetime.now(UTC)
    assert before - ago <= parse_time(text) <= datetime.now(UTC) - ago
    assert parse_duration(text) == ago


@pytest.mark.parametrize(
    "text", ["", "x", "7", "d", "-1d", "1.5h", "7 d", "7D", "1y", "٣d", "36526d", "999999w"]
)
def test_what_is_no_duration_is_refused_with_what_would_be(text) -> None:
    with pytest.raises(ValueError, match=r"is no duration: write 30m, 24h, 7d or 2w"):
        parse_duration(text)


@pytest.mark.parametrize(
    "text", ["", "now", "2026-13-01", "31.1.2026", "0001-01-01T00:00:00+23:00", "9999-12-31T23:59:59-23:00"]
)
def test_what_is_no_time_is_refused_with_what_would_be(text) -> None:
    with pytest.raises(ValueError, match=r"is no time: write 2026-01-31"):
        parse_time(text)


@given(st.text(max_size=40))
def test_nothing_else_is_ever_raised(text: str) -> None:
    try:
        assert parse_time(text).tzinfo is not None
    except ValueError:
        pass
