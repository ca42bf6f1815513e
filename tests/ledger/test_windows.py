"""Windows as the store keeps them: what counts when, and when it ceases to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.ledger.states import FREE, exceeded, granted

from govmiddleware.core.ports import LimitsExceeded
from govmiddleware.core.windows import CalendarUnit

if TYPE_CHECKING:
    from tests.ledger.conftest import Bench


# Sliding -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("seconds", "bucket", "buckets"), [(1, 16, 63), (60, 1000, 60), (3600, 60_000, 60)])
async def test_amounts_leave_a_sliding_window_with_their_bucket(
    bench: Bench, seconds: int, bucket: int, buckets: int
) -> None:
    bench.clock.now_ms -= bench.clock.now_ms % bucket
    start, hold = bench.clock.now_ms, bench.sliding(1, of=2, seconds=seconds)
    bench.clock.now_ms += bucket - 1
    await bench.open("a", hold)
    await bench.settle("a", 1)
    bench.clock.now_ms += 1
    await bench.open("b", hold)
    bench.clock.now_ms = start + (buckets + 1) * bucket - 1
    refused = await bench.open("c", hold)
    assert isinstance(refused, LimitsExceeded)
    assert exceeded(refused) == [(1, 1, 1)]
    bench.clock.now_ms += 1
    assert await bench.look(hold) == (0, 1)
    bench.clock.now_ms += bucket
    assert await bench.look(hold) == (0, 0)


async def test_the_running_sums_are_those_of_the_buckets_that_count(bench: Bench) -> None:
    bench.clock.advance(0.5)
    for second in range(100):
        await bench.open(f"a{second}", bench.sliding(1, of=10**6))
        if second % 3:
            await bench.settle(f"a{second}", second)
        bench.clock.advance(1)
    counted = [second for second in range(100) if second >= 100 - 60]
    assert await bench.look(bench.sliding(0, of=10**6)) == (
        sum(second for second in counted if second % 3),
        sum(1 for second in counted if second % 3 == 0),
    )
    await bench.audited()


@pytest.mark.parametrize("idle", [60, 61, 62, 119, 120, 121, 122, 123, 1000])
async def test_once_the_window_has_passed_everything_is_free(bench: Bench, idle: int) -> None:
    hold = bench.sliding(5, of=10)
    await bench.open("a", hold)
    await bench.settle("a", 5)
    await bench.open("b", hold)
    bench.clock.advance(idle)
    assert await bench.look(hold) == ((5, 5) if idle == 60 else (0, 0))
    await bench.settle("b", 2)
    assert await bench.look(hold) == ((7, 0) if idle == 60 else (0, 0))
    await bench.audited()


@pytest.mark.parametrize("idle", [61, 125])
async def test_what_is_settled_after_its_bucket_left_the_window_counts_no_more(
    bench: Bench, idle: int
) -> None:
    await bench.open("late", bench.sliding(5, of=10))
    bench.clock.advance(idle)
    await bench.open("other", bench.sliding(3, of=10))
    assert await bench.settle("late", 9)
    assert await bench.look(bench.sliding(0, of=10)) == (0, 3)
    await bench.audited()


async def test_what_is_settled_late_counts_in_the_bucket_of_its_admission(bench: Bench) -> None:
    await bench.open("a", bench.sliding(5, of=10))
    bench.clock.advance(50)
    await bench.settle("a", 4)
    assert await bench.look(bench.sliding(0, of=10)) == (4, 0)
    bench.clock.advance(11)
    assert await bench.look(bench.sliding(0, of=10)) == (0, 0)
    await bench.audited()


async def test_a_sliding_counter_keeps_no_field_of_what_left_its_window(bench: Bench) -> None:
    key = bench.keys.counter(bench.sliding(1, of=1).counter.name)
    for gap in (1, 1, 7, 30, 61, 62, 3600):
        for number in range(70):
            name = f"{gap} {number}"
            await bench.open(name, bench.sliding(1, of=1000))
            if number % 2:
                await bench.settle(name, 1)
            bench.clock.advance(gap)
        numbers = [int(str(field)[1:]) for field in bench.raw.hkeys(key) if len(str(field)) > 1]
        assert min(numbers) >= bench.clock.now_ms // 1000 - gap - 60
    await bench.audited()


async def test_a_sliding_counter_that_expired_takes_no_late_settlement(bench: Bench) -> None:
    hold = bench.sliding(5, of=10)
    await bench.open("a", hold)
    bench.clock.advance(3600)
    bench.raw.delete(bench.keys.counter(hold.counter.name))  # as its TTL does
    assert await bench.settle("a", 5)
    assert await bench.look(hold) == (0, 0)
    await bench.audited()


# Calendar ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("unit", "before", "after"),
    [
        (CalendarUnit.HOUR, "2026-07-15 12:59:59.999", "2026-07-15 13:00:00"),
        (CalendarUnit.DAY, "2028-02-28 23:59:59.999", "2028-02-29 00:00:00"),
        (CalendarUnit.WEEK, "2026-07-19 23:59:59.999", "2026-07-20 00:00:00"),
        (CalendarUnit.MONTH, "2026-12-31 23:59:59.999", "2027-01-01 00:00:00"),
    ],
)
async def test_a_calendar_window_begins_anew_on_its_border(
    bench: Bench, unit: CalendarUnit, before: str, after: str
) -> None:
    hold = bench.calendar(10, unit, of=10)
    bench.at(before)
    await bench.open("a", hold)
    await bench.settle("a", 10)
    assert exceeded(await bench.open("b", hold)) == [(10, 0, 1)]
    bench.at(after)
    assert granted(await bench.open("c", hold)) == [FREE]
    await bench.audited()


async def test_amounts_belong_to_the_window_of_their_admission(bench: Bench) -> None:
    bench.at("2026-07-31 23:59:59")
    await bench.open("july", bench.month(60, of=100))
    bench.at("2026-08-01 00:00:01")
    await bench.open("august", bench.month(30, of=100))
    assert await bench.settle("july", 500)
    assert await bench.look(bench.month(0, of=100)) == (0, 30)
    await bench.settle("august", 20)
    assert await bench.look(bench.month(0, of=100)) == (20, 0)
    july, august = [record.holds[0] for record in await bench.records()]
    assert (july.amount, august.amount) == (500, 20)
    assert august.bucket - july.bucket == 31 * 86_400_000
    await bench.audited()


async def test_a_call_that_is_settled_two_windows_later_disturbs_neither(bench: Bench) -> None:
    await bench.open("july", bench.month(60, of=100))
    for month in ("08", "09"):
        bench.at(f"2026-{month}-01 00:00:00")
        await bench.open(month, bench.month(30, of=100))
    assert await bench.settle("july", 60)
    assert await bench.settle("08", 7)
    assert await bench.look(bench.month(0, of=100)) == (0, 30)
    july, _ = [str(record.holds[0].bucket) for record in await bench.records()]
    key = bench.keys.counter(bench.month(0, of=100).counter.name)
    assert not [field for field in bench.raw.hkeys(key) if str(field).endswith(july)]
    await bench.audited()


async def test_windows_that_passed_unused_leave_nothing_behind(bench: Bench) -> None:
    for hour in range(13, 23):
        bench.at(f"2026-07-15 {hour}:00:00")
        await bench.open(str(hour), bench.calendar(1, CalendarUnit.HOUR, of=5))
        await bench.settle(str(hour), 1)
    key = bench.keys.counter(bench.calendar(1, CalendarUnit.HOUR, of=5).counter.name)
    assert len(bench.raw.hgetall(key)) == 4
    await bench.audited()


async def test_windows_are_sent_again_where_the_stores_clock_is_elsewhere(bench: Bench) -> None:
    """A worker whose clock stands weeks behind: the workspace has seen later times."""
    july = bench.clock.now_ms
    bench.at("2026-09-10 08:00:00")
    await bench.open("other", bench.month(60, of=100))
    bench.clock.now_ms = july
    assert granted(await bench.open("a", bench.month(30, of=100))) == [(0, 60, None)]
    assert exceeded(await bench.open("b", bench.month(30, of=100))) == [(0, 90, (20 * 24 + 16) * 3600_000)]
    await bench.audited()


@pytest.mark.parametrize(
    ("seen", "window", "trips"),
    [
        ("2026-07-31 23:59:59.999", "2026-07-01", 1),
        ("2026-08-01 00:00:00", "2026-08-01", 1),
        ("2026-08-31 23:59:59.999", "2026-08-01", 1),
        ("2026-09-01 00:00:00", "2026-09-01", 2),
    ],
)
async def test_the_stores_clock_picks_between_the_two_windows_that_it_was_sent(
    bench: Bench, seen: str, window: str, trips: int
) -> None:
    """A worker that is late by one window needs no second trip."""
    bench.at(seen)
    await bench.open("seen", bench.slot(of=9))
    bench.at("2026-07-31 23:59:59.990")
    calls = await bench.script_calls()
    await bench.open("late", bench.month(90, of=100))
    assert await bench.script_calls() == calls + trips
    await bench.settle("late", 90)
    bench.at(window)
    assert (await bench.records())[0].holds[0].bucket == bench.clock.now_ms


# For ever, and time itself -----------------------------------------------------------------------


async def test_a_lifetime_limit_never_frees(bench: Bench) -> None:
    await bench.open("a", bench.lifetime(10, of=10))
    await bench.settle("a", 10)
    bench.clock.advance(10 * 365 * 86_400)
    assert exceeded(await bench.open("b", bench.lifetime(1, of=10))) == [(10, 0, None)]


async def test_time_never_goes_backwards_in_a_workspace(bench: Bench) -> None:
    seen = bench.clock.now_ms
    await bench.open("a", bench.sliding(10, of=10), lease=60)
    bench.clock.advance(-3600)
    refused = await bench.open("b", bench.sliding(1, of=10))
    assert exceeded(refused) == [(0, 10, 61_000)]
    await bench.open("c")
    assert bench.raw.zscore(bench.keys.open, "c") == seen + 60_000
    assert await bench.settle("a", 10)
    assert (await bench.records())[0].at_ms == seen
    assert bench.raw.hget(bench.keys.state, "now") == str(seen)


@pytest.mark.parametrize("step", ["open", "refuse", "settle", "renew", "sweep"])
async def test_every_step_that_writes_notes_the_time(bench: Bench, step: str) -> None:
    await bench.open("a", bench.slot(of=1))
    bench.clock.advance(60)
    if step == "open":
        await bench.open("b")
    elif step == "refuse":
        await bench.open("b", bench.slot(of=1))
    elif step == "settle":
        await bench.settle("a", 0)
    elif step == "renew":
        await bench.renew("a")
    else:
        await bench.sweep("a")
    assert bench.raw.hget(bench.keys.state, "now") == str(bench.clock.now_ms)


async def test_without_a_test_clock_the_stores_own_time_counts(bench: Bench) -> None:
    bench.ledger._clock = None
    await bench.open("a", bench.sliding(1, of=1), bench.month(1, of=9))
    seconds, microseconds = bench.raw.time()
    seen = int(bench.raw.hget(bench.keys.state, "now") or 0)
    assert 0 <= seconds * 1000 + microseconds // 1000 - seen < 5000
    await bench.settle("a", 1, 1)
    assert await bench.ledger.expired(bench.workspace, 9) == []
    await bench.audited()
