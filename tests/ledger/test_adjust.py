"""adjust and look: what people and code do to counters."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from govmiddleware.core.adjustments import (
    Action,
    Adjusted,
    Adjustment,
    Look,
    Member,
    NotAdjusted,
    Seen,
    SeenMember,
)
from govmiddleware.core.journal import SettledHold
from govmiddleware.core.limits import Counter, Meter
from govmiddleware.core.ports import Granted, LimitsExceeded
from govmiddleware.core.scopes import Scope
from govmiddleware.core.windows import CalendarUnit, CalendarWindow, Lifetime, SlidingWindow
from govmiddleware.ledger import sync_connection
from govmiddleware.ledger.adjustments import RedisAdjustments, SyncRedisAdjustments

if TYPE_CHECKING:
    from tests.ledger.conftest import Bench

WINDOWS = [SlidingWindow(60), CalendarWindow(CalendarUnit.MONTH), Lifetime()]
COUNTERS = tuple(Counter(Scope.USER, Meter.TOTAL_TOKENS, window, "ann") for window in WINDOWS)
CLOCK = Counter(Scope.USER, Meter.WALL_CLOCK, Lifetime(), "ann")
DAY_MS = 86_400_000


class Books:
    """Short words for what a test does."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.adjustments = RedisAdjustments(bench.redis, clock=bench.clock)
        self._made = 0

    async def do(self, action: Action, *amounts: int, **given: Any) -> Adjusted | NotAdjusted:
        self._made += 1
        given = {"id": f"adj{self._made}", "counters": COUNTERS, "record": b"%d" % self._made} | given
        return await self.adjustments.adjust(
            self.bench.workspace, Adjustment(action=action, amounts=amounts, **given)
        )

    async def add(self, *amounts: int, **given: Any) -> Adjusted | NotAdjusted:
        return await self.do(Action.ADD, *amounts, **given)

    async def used(self, *counters: Counter) -> tuple[int | None, ...]:
        return (await self.look(*counters)).used

    async def look(self, *counters: Counter) -> Seen:
        return await self.adjustments.look(self.bench.workspace, Look(counters or COUNTERS))

    async def member(self, name: str = "ann") -> SeenMember:
        seen = await self.adjustments.look(self.bench.workspace, Look((), "research", ("nobody", name)))
        assert seen.members[0] == SeenMember(None, "")
        return seen.members[1]


@pytest.fixture
def books(bench: Bench) -> Books:
    return Books(bench)


# Adding ------------------------------------------------------------------------------------------


async def test_what_is_added_counts_beside_what_calls_use(books: Books, bench: Bench) -> None:
    holds = [bench.hold(30, of=100, window=window) for window in WINDOWS]
    await bench.open("a", *holds)
    assert await books.add(20, 20, 20) == Adjusted((0, 0, 0), (20, 20, 20), "", ())
    await bench.settle("a", 10, 10, 10)
    assert [await bench.look(hold) for hold in holds] == [(30, 0)] * 3
    assert await books.used() == (30, 30, 30)
    refused = await bench.open("b", bench.hold(71, of=100, window=Lifetime()))
    assert isinstance(refused, LimitsExceeded)
    await bench.audited()


async def test_what_is_open_is_seen_as_reserved(books: Books, bench: Bench) -> None:
    await bench.open("a", bench.hold(30, of=100, window=Lifetime()))
    assert await books.look(COUNTERS[2]) == Seen((0,), (30,))


async def test_an_adjustment_is_a_record_with_its_changes(books: Books, bench: Bench) -> None:
    await books.add(1, 2, 3, record=b"what ann did")
    [record] = await bench.records()
    assert record.record == b"what ann did"
    assert record.at_ms == bench.clock.now_ms
    assert [(hold.counter, hold.amount) for hold in record.holds] == [
        (counter.name, amount) for counter, amount in zip(COUNTERS, (1, 2, 3), strict=True)
    ]


async def test_an_adjustment_that_is_sent_again_changes_nothing_and_is_answered_as_before(
    books: Books, bench: Bench
) -> None:
    first = await books.add(5, 5, 5, id="once")
    await books.add(1, 1, 1)
    stored = bench.everything()
    assert await books.add(5, 5, 5, id="once") == first
    assert bench.everything() == stored
    assert await books.used() == (6, 6, 6)


async def test_added_amounts_leave_a_sliding_window_when_it_is_over(books: Books, bench: Bench) -> None:
    await books.add(20, 20, 20)
    bench.clock.advance(62)
    assert await books.used() == (0, 20, 20)
    await books.add(1, 1, 1)
    await bench.audited()


async def test_a_new_calendar_window_begins_at_nothing(books: Books, bench: Bench) -> None:
    await books.add(20, 20, 20)
    bench.at("2026-08-01 00:00:00")
    assert await books.used() == (0, 0, 20)
    await books.add(1, 1, 1)
    assert await books.used() == (1, 1, 21)
    await bench.audited()


async def test_a_caller_whose_clock_is_a_month_behind_counts_in_the_stores_window(
    books: Books, bench: Bench
) -> None:
    bench.at("2026-09-03 00:00:00")
    await books.add(1, 1, 1)
    bench.at("2026-07-15 00:00:00")  # the workspace's clock never goes back
    await books.add(1, 1, 1)
    assert await books.used() == (2, 2, 2)
    await bench.audited()


async def test_many_at_once_lose_nothing(books: Books, bench: Bench) -> None:
    await asyncio.gather(*(books.add(1, 2, 3) for _ in range(10)))
    assert await books.used() == (10, 20, 30)
    await bench.audited()


async def test_nothing_is_added_to_what_is_open(books: Books, bench: Bench) -> None:
    slot = bench.slot(of=1)
    await books.add(1, counters=(slot.counter,))
    assert isinstance(await bench.open("a", slot), Granted)
    await bench.audited()


async def test_a_synchronous_client_does_the_same(books: Books, bench: Bench) -> None:
    redis = sync_connection.connect(bench.url)
    try:
        sync = SyncRedisAdjustments(redis, clock=bench.clock)
        adjustment = Adjustment("once", Action.ADD, COUNTERS, (1, 2, 3), b"record", ann())
        for _ in range(2):
            assert sync.adjust(bench.workspace, adjustment) == Adjusted((0, 0, 0), (1, 2, 3), "first", ())
        assert sync.look(bench.workspace, Look(COUNTERS)) == await books.look()
        assert sync.members(bench.workspace, "research") == ["ann"]
    finally:
        redis.close()
    await bench.audited()


# Taking back -------------------------------------------------------------------------------------


async def test_a_reset_takes_back_what_the_window_has_and_leaves_what_is_open(
    books: Books, bench: Bench
) -> None:
    holds = [bench.hold(30, of=100, window=window) for window in WINDOWS]
    await books.add(20, 20, 20)
    bench.clock.advance(2)
    await books.add(5, 5, 5)
    await bench.open("a", *holds)
    assert await books.do(Action.RESET) == Adjusted((25, 25, 25), (-25, -25, -25), "", ())
    assert [await bench.look(hold) for hold in holds] == [(0, 30)] * 3
    await bench.settle("a", 10, 10, 10)
    assert await books.used() == (10, 10, 10)
    await bench.audited()


async def test_a_reset_is_a_record_with_negative_amounts(books: Books, bench: Bench) -> None:
    await books.add(20, 20, 20)
    bench.clock.advance(1)
    await books.add(1, 1, 1)
    await books.do(Action.RESET, record=b"reset")
    taken = (await bench.records())[-1]
    sliding = bench.clock.now_ms // 1000
    assert SettledHold(COUNTERS[0].name, sliding - 1, -20) in taken.holds
    assert SettledHold(COUNTERS[0].name, sliding, -1) in taken.holds
    assert sorted(hold.amount for hold in taken.holds) == [-21, -21, -20, -1]


async def test_a_reset_leaves_the_window_before_alone(books: Books, bench: Bench) -> None:
    await books.add(20, 20, 20)
    bench.at("2026-08-01 00:00:00")
    assert await books.do(Action.RESET) == Adjusted((0, 0, 20), (0, 0, -20), "", ())
    await bench.audited()


async def test_a_reset_of_nothing_writes_no_counter(books: Books, bench: Bench) -> None:
    await books.do(Action.RESET)
    assert not [key for key in bench.everything() if key.startswith(bench.keys.counter_prefix)]
    await bench.audited()


async def test_a_slot_that_is_taken_is_not_taken_back(books: Books, bench: Bench) -> None:
    slot = bench.slot(of=1)
    await bench.open("a", slot)
    await books.do(Action.RESET, counters=(slot.counter,))
    assert isinstance(await bench.open("b", slot), LimitsExceeded)
    await bench.audited()


async def test_a_wall_clock_runs_from_the_first_use_until_it_is_reset(books: Books, bench: Bench) -> None:
    assert await books.used(CLOCK) == (None,)
    for _ in range(2):
        await books.add(0, counters=(CLOCK,))
        bench.clock.advance(7)
    assert await books.used(CLOCK) == (14,)
    await books.do(Action.RESET, counters=(CLOCK,))
    assert await books.used(CLOCK) == (None,)
    await bench.audited()


async def test_a_counter_that_is_forgotten_leaves_nothing_behind(books: Books, bench: Bench) -> None:
    await books.add(1, 2, 3)
    assert await books.do(Action.FORGET) == Adjusted((1, 2, 3), (-1, -2, -3), "", ())
    assert not [key for key in bench.everything() if key.startswith(bench.keys.counter_prefix)]
    await bench.audited()


async def test_a_counter_that_a_call_holds_is_forgotten_but_for_that(books: Books, bench: Bench) -> None:
    hold = bench.hold(30, of=100, window=Lifetime())
    await books.add(0, 0, 50)
    await bench.open("a", hold)
    await books.do(Action.FORGET)
    await bench.settle("a", 8)
    assert await bench.look(hold) == (8, 0)
    await bench.audited()


# Members -----------------------------------------------------------------------------------------


def ann(name: str = "ann", **given: Any) -> Member:
    return Member("research", name, **{"terms": "first", "idle_ms": DAY_MS, "most": 3} | given)


async def test_a_member_keeps_the_terms_that_it_got_when_it_was_new(books: Books) -> None:
    added = await books.add(1, 1, 1, member=ann())
    assert isinstance(added, Adjusted)
    assert added.terms == "first"
    again = await books.add(1, 1, 1, member=ann(terms="second"))
    assert isinstance(again, Adjusted)
    assert again.terms == "first"
    assert (await books.member()).terms == "first"


async def test_a_look_makes_nobody_a_member_and_neither_does_a_reset(books: Books, bench: Bench) -> None:
    assert (await books.member()).unused_ms is None
    await books.do(Action.RESET, member=ann())
    assert await books.adjustments.members(bench.workspace, "research") == []
    await books.add(1, 1, 1, member=ann())
    bench.clock.advance(3)
    assert (await books.member()).unused_ms == 3000


async def test_a_member_that_is_forgotten_is_new_again(books: Books, bench: Bench) -> None:
    await books.add(1, 1, 1, member=ann())
    await books.do(Action.FORGET, member=ann())
    assert await books.adjustments.members(bench.workspace, "research") == []
    assert await books.member() == SeenMember(None, "")
    assert not [key for key in bench.everything() if ":b:" in key or ":t:" in key]


async def test_a_member_that_was_idle_has_to_be_forgotten_before_it_counts_again(
    books: Books, bench: Bench
) -> None:
    await books.add(9, 9, 9, member=ann())
    assert await books.do(Action.FORGET, member=ann(), if_idle=True) is NotAdjusted.BUSY
    bench.clock.advance(86_400)
    before = bench.everything()
    assert await books.add(1, 1, 1, member=ann()) is NotAdjusted.IDLE
    assert bench.everything() == before
    await books.do(Action.FORGET, member=ann(), if_idle=True)
    await books.add(1, 1, 1, member=ann(terms="second"))
    assert (await books.member()).terms == "second"
    assert await books.used() == (1, 1, 1)
    await bench.audited()


async def test_who_adds_hears_who_is_idle_and_who_is_too_many(books: Books, bench: Bench) -> None:
    idle = []
    for name in ("a", "b", "c", "d"):
        added = await books.add(member=ann(name), counters=())
        assert isinstance(added, Adjusted)
        idle.append(added.idle)
        bench.clock.advance(1)
    assert idle == [(), (), (), ("a",)]
    bench.clock.advance(86_399)
    added = await books.add(member=ann("d", idle_ms=DAY_MS + 1000), counters=())
    assert isinstance(added, Adjusted)
    assert added.idle == ("a", "b", "c")


async def test_of_too_many_only_the_one_not_used_for_the_longest_is_forgotten(books: Books) -> None:
    for name in ("a", "b", "c", "d"):
        await books.add(member=ann(name), counters=())
        books.bench.clock.advance(1)
    assert await books.do(Action.FORGET, member=ann("b"), if_idle=True) is NotAdjusted.BUSY
    assert await books.do(Action.FORGET, member=ann("a"), if_idle=True) != NotAdjusted.BUSY
    assert await books.do(Action.FORGET, member=ann("b"), if_idle=True) is NotAdjusted.BUSY
    assert await books.adjustments.members(books.bench.workspace, "research") == ["b", "c", "d"]


async def test_the_calls_of_a_member_are_granted_as_before(books: Books, bench: Bench) -> None:
    await books.add(40, 40, 40, member=ann())
    assert isinstance(await bench.open("a", bench.hold(60, of=100, window=Lifetime())), Granted)
