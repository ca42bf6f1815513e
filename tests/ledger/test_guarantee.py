"""What a sliding window promises: never more than its limit, anywhere, and little less under steady load."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from govmiddleware.core.ports import Granted

if TYPE_CHECKING:
    from tests.ledger.conftest import Bench

LENGTHS = [1, 2, 7, 60, 61, 3600]


@dataclass
class Asked:
    """One call: after how long, as a part of the window, it asks for how much; and what it used, None if
    it stays open."""

    after: float
    amount: int
    used: int | None


@dataclass
class Trace:
    seconds: int
    limit: int
    calls: list[Asked] = field(default_factory=list)


@st.composite
def traces(draw: st.DrawFn) -> Trace:
    seconds, limit = draw(st.sampled_from(LENGTHS)), draw(st.integers(1, 40))
    bucket = max(1, seconds * 1000 // 60) / 1000 / seconds
    gaps = st.one_of(
        st.just(0.0),
        st.floats(0, 0.2),
        st.sampled_from([bucket, 1 - bucket, 1.0, 1 + bucket, 1 + 2 * bucket, 2.0, 2 + 2 * bucket]),
        st.floats(1 - 2 * bucket, 1 + 2 * bucket),
        st.floats(0, 3),
    )
    amounts = st.one_of(st.integers(1, max(1, limit // 3)), st.integers(1, limit))
    asked = st.builds(Asked, gaps, amounts, st.none())
    calls = draw(st.lists(asked, min_size=5, max_size=40))
    for call in calls:
        call.used = draw(st.one_of(st.none(), st.integers(0, call.amount)))
    return Trace(seconds, limit, calls)


def most_in_any_interval(admitted: list[tuple[int, int]], length: int) -> int:
    """The largest sum of amounts in any interval of this length, both of its ends included."""
    return max(
        (sum(amount for at, amount in admitted if start <= at <= start + length) for start, _ in admitted),
        default=0,
    )


numbers: Iterator[int] = iter(range(10**9))


@given(trace=traces())
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)  # fmt: skip
async def test_no_interval_of_the_windows_length_holds_more_than_the_limit(
    bench: Bench, trace: Trace
) -> None:
    user = f"user{next(numbers)}"
    admitted: list[tuple[int, int]] = []
    for asked in trace.calls:
        bench.clock.advance(asked.after * trace.seconds)
        hold = bench.sliding(asked.amount, of=trace.limit, seconds=trace.seconds, value=user)
        call = f"call{next(numbers)}"
        if isinstance(await bench.open(call, hold, lease=10**6), Granted):
            admitted.append((bench.clock.now_ms, asked.amount))
            assert most_in_any_interval(admitted, trace.seconds * 1000) <= trace.limit
            if asked.used is not None:
                await bench.settle(call, asked.used)
                admitted[-1] = (bench.clock.now_ms, asked.used)


@pytest.mark.parametrize(("seconds", "limit"), [(1, 50), (60, 100), (3600, 60)])
async def test_steady_load_at_twice_the_rate_gets_nearly_all_of_the_limit(
    bench: Bench, seconds: int, limit: int
) -> None:
    gap, admitted = seconds / limit / 2, 0
    hold = bench.sliding(1, of=limit, seconds=seconds)
    start = bench.clock.now_ms
    for number in range(20 * limit):
        bench.clock.now_ms = start + round(number * gap * 1000)
        admitted += isinstance(await bench.open(str(number), hold, lease=10**6), Granted)
    assert 0.95 * 10 * limit <= admitted <= 10 * limit


async def test_replicas_that_race_admit_no_more_than_the_limit(bench: Bench) -> None:
    hold = bench.sliding(1, of=30)
    outcomes = await asyncio.gather(*(bench.open(str(number), hold) for number in range(90)))
    assert sum(isinstance(outcome, Granted) for outcome in outcomes) == 30
