"""settle, cancel, renew and sweep: how a reservation ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.ledger.states import FREE, exceeded, granted

from govmiddleware.core.journal import SettledHold
from govmiddleware.core.limits import Hold
from govmiddleware.core.ports import Granted, LimitsExceeded, ReservationGone, Settled
from govmiddleware.errors import StoreUnavailable

if TYPE_CHECKING:
    from tests.ledger.conftest import Bench

QUARTER_OF_AN_HOUR_MS = 15 * 60 * 1000


def each_kind(bench: Bench, amount: int) -> list[Hold]:
    return [bench.sliding(amount, of=100), bench.month(amount, of=100), bench.lifetime(amount, of=100)]


async def looks(bench: Bench, holds: list[Hold]) -> list[tuple[int, int]]:
    return [await bench.look(hold) for hold in holds]


# settle ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("used", [0, 7, 30, 31, 150])
async def test_settling_replaces_what_was_reserved_by_what_was_used(bench: Bench, used: int) -> None:
    holds = each_kind(bench, 30)
    await bench.open("a", *holds)
    assert await bench.settle("a", used, used, used)
    assert await looks(bench, holds) == [(used, 0)] * 3
    await bench.audited()


async def test_what_others_hold_is_left_alone(bench: Bench) -> None:
    await bench.open("a", *each_kind(bench, 30))
    await bench.open("b", *each_kind(bench, 20))
    await bench.settle("a", 1, 1, 1)
    assert await looks(bench, each_kind(bench, 0)) == [(1, 20)] * 3


async def test_settling_journals_the_record_with_the_buckets_of_the_admission(bench: Bench) -> None:
    sliding, month = bench.sliding(30, of=100), bench.month(30, of=100)
    admitted = bench.clock.now_ms
    await bench.open("a", sliding, month, bench.slot(of=1))
    bench.clock.advance(10)
    await bench.settle("a", 4, 5, 0)
    (record,) = await bench.records()
    assert record.at_ms == bench.clock.now_ms
    assert record.record == b"a settled"
    month_start = admitted - ((14 * 24 + 12) * 60 + 30) * 60_000
    assert record.holds == (
        SettledHold(sliding.counter.name, admitted // 1000, 4),
        SettledHold(month.counter.name, month_start, 5),
        SettledHold(bench.slot(of=1).counter.name, 0, 0),
    )


async def test_settling_twice_changes_nothing(bench: Bench) -> None:
    await bench.open("a", *each_kind(bench, 30))
    assert await bench.settle("a", 1, 2, 3)
    before = bench.everything()
    assert not await bench.settle("a", 10, 10, 10)
    assert not await bench.release("a")
    assert bench.everything() == before


async def test_a_counter_left_out_of_the_amounts_was_not_used(bench: Bench) -> None:
    month = bench.month(30, of=100)
    await bench.open("a", month)
    assert await bench.ledger.settle(bench.workspace, "a", [month.counter], {}, b"{}") is Settled.WHOLE
    assert await bench.look(month) == (0, 0)


async def test_what_was_used_past_a_limit_is_a_debt_that_keeps_others_out(bench: Bench) -> None:
    await bench.open("a", bench.month(60, of=100))
    await bench.settle("a", 250)
    assert await bench.look(bench.month(0, of=100)) == (250, 0)
    refused = await bench.open("b", bench.month(1, of=100))
    assert isinstance(refused, LimitsExceeded)
    assert refused.states[0].consumed == 250
    await bench.audited()


async def test_a_concurrency_slot_is_free_as_soon_as_its_call_is_settled(bench: Bench) -> None:
    slot = bench.slot(of=2)
    await bench.open("a", slot)
    await bench.open("b", slot)
    assert exceeded(await bench.open("c", slot)) == [(0, 2, None)]
    await bench.settle("a", 0)
    assert granted(await bench.open("c", slot)) == [(0, 1, None)]
    await bench.settle("b", 0)
    await bench.release("c")
    assert granted(await bench.open("d", slot)) == [FREE]
    await bench.release("d")
    key = bench.keys.counter(slot.counter.name)
    assert bench.raw.hkeys(key) == ["hworkspace-now"], "what was told of it alone is left"
    assert 0 < bench.raw.pttl(key) <= 60_000


async def test_a_release_frees_everything_and_journals_nothing(bench: Bench) -> None:
    holds = each_kind(bench, 30)
    await bench.open("a", *holds)
    assert await bench.release("a")
    assert await looks(bench, holds) == [(0, 0)] * 3
    assert await bench.records() == []


async def test_settling_without_one_of_the_counters_writes_nothing(bench: Bench) -> None:
    """It would leave that counter reserved for ever."""
    month, slot = bench.month(30, of=100), bench.slot(of=1)
    await bench.open("a", month, slot)
    before = bench.everything()
    with pytest.raises(StoreUnavailable, match="does not know"):
        await bench.ledger.settle(bench.workspace, "a", [slot.counter], {}, b"{}")
    assert bench.everything() == before


async def test_settling_may_name_counters_that_are_not_held(bench: Bench) -> None:
    """Those of an extension whose answer, a refusal, got lost."""
    month = bench.month(30, of=100)
    await bench.open("a", month)
    holds, amounts = [month, bench.lifetime(5, of=9)], {month.counter.name: 3, "user:x:lifetime:y": 5}
    assert (
        await bench.ledger.settle(bench.workspace, "a", [hold.counter for hold in holds], amounts, b"{}")
        is Settled.IN_PART
    )
    assert await bench.look(bench.lifetime(0, of=9)) == (0, 0)
    assert [len(record.holds) for record in await bench.records()] == [1]
    await bench.audited()


# cancel ------------------------------------------------------------------------------------------


async def test_cancelling_what_was_granted_releases_it(bench: Bench) -> None:
    holds = [*each_kind(bench, 30), bench.slot(of=1)]
    await bench.open("a", *holds)
    await bench.cancel("a")
    assert await looks(bench, holds) == [(0, 0)] * 4
    assert await bench.records() == []
    assert not await bench.settle("a", 1, 1, 1, 0)


async def test_cancelling_an_unknown_id_refuses_the_acquire_that_comes_late(bench: Bench) -> None:
    await bench.cancel("a", bench.month(1, of=9))
    before = bench.everything()
    assert await bench.open("a", bench.month(1, of=9)) == ReservationGone()
    assert not await bench.settle("a", 1)
    assert not await bench.renew("a")
    assert not await bench.sweep("a")
    assert bench.everything() == before


async def test_a_tombstone_lives_for_the_lease_and_a_quarter_of_an_hour(bench: Bench) -> None:
    await bench.cancel("a", bench.month(1, of=9))
    key = bench.keys.reservation("a")
    lives = bench.raw.pttl(key)
    assert 0 <= 60_000 + QUARTER_OF_AN_HOUR_MS - lives < 10_000
    assert bench.raw.keys(f"{bench.keys.counter_prefix}*") == []
    bench.raw.delete(key)  # as its end does
    assert isinstance(await bench.open("a", bench.month(1, of=9)), Granted)


async def test_cancelling_again_does_no_harm(bench: Bench) -> None:
    """Its answer may be lost too: it is sent until one arrives."""
    month = bench.month(1, of=9)
    await bench.open("a", month)
    await bench.cancel("a")
    await bench.cancel("a")
    await bench.cancel("a")
    assert await bench.look(month) == (0, 0)


# renew -------------------------------------------------------------------------------------------


async def test_renewing_postpones_the_sweep(bench: Bench) -> None:
    await bench.open("a", bench.month(30, of=100))
    bench.clock.advance(50)
    assert await bench.renew("a")
    bench.clock.advance(59.999)
    assert await bench.ledger.expired(bench.workspace, 10) == []
    assert not await bench.sweep("a")
    bench.clock.advance(0.001)
    assert await bench.ledger.expired(bench.workspace, 10) == ["a"]
    assert await bench.sweep("a")


async def test_what_is_not_open_cannot_be_renewed(bench: Bench) -> None:
    await bench.open("a", bench.slot(of=1))
    await bench.settle("a", 0)
    before = bench.everything()
    assert not await bench.renew("a")
    assert not await bench.renew("never opened")
    assert bench.everything() == before


# sweep -------------------------------------------------------------------------------------------


async def test_a_lost_reservation_is_settled_as_reserved_with_the_record_it_left(bench: Bench) -> None:
    holds = [*each_kind(bench, 30), bench.slot(of=1)]
    await bench.open("a", *holds)
    bench.clock.advance(60)
    assert await bench.sweep("a")
    # The sliding window is just full minutes, so that its bucket of the admission counts still.
    assert await looks(bench, holds) == [(30, 0)] * 3 + [(0, 0)]
    (record,) = await bench.records()
    assert record.record == b"a expired"
    assert {hold.counter: hold.amount for hold in record.holds} == {
        hold.counter.name: 30 for hold in holds[:3]
    } | {holds[3].counter.name: 0}
    await bench.audited()


async def test_nothing_is_swept_before_its_lease_has_run_out(bench: Bench) -> None:
    await bench.open("a", bench.month(30, of=100))
    bench.clock.advance(59.999)
    before = bench.everything()
    assert not await bench.sweep("a")
    assert bench.everything() == before


async def test_only_one_sweep_of_a_reservation_does_anything(bench: Bench) -> None:
    await bench.open("a", bench.month(30, of=100))
    bench.clock.advance(60)
    assert await bench.sweep("a")
    before = bench.everything()
    assert not await bench.sweep("a")
    assert not await bench.sweep("never opened")
    assert bench.everything() == before


async def test_settling_after_the_sweep_changes_nothing(bench: Bench) -> None:
    await bench.open("a", bench.month(30, of=100), bench.slot(of=1))
    bench.clock.advance(60)
    await bench.sweep("a")
    before = bench.everything()
    assert not await bench.settle("a", 4, 0)
    assert not await bench.release("a")
    assert bench.everything() == before


async def test_settling_after_the_lease_but_before_the_sweep_counts(bench: Bench) -> None:
    await bench.open("a", bench.month(30, of=100))
    bench.clock.advance(600)
    assert await bench.settle("a", 4)
    assert not await bench.sweep("a")
    assert await bench.look(bench.month(0, of=100)) == (4, 0)


async def test_an_admission_names_a_few_that_want_sweeping_the_oldest_first(bench: Bench) -> None:
    for name in "fedcba":
        await bench.open(name)
        bench.clock.advance(0.001)
    bench.clock.advance(60)
    assert await bench.open("g") == Granted((), 0, 0, tuple("fedc"))
    assert await bench.ledger.expired(bench.workspace, 3) == list("fed")


async def test_a_reservation_whose_hash_was_lost_is_swept_out_of_the_way(bench: Bench) -> None:
    await bench.open("a", bench.month(30, of=100))
    bench.raw.delete(bench.keys.reservation("a"))
    bench.clock.advance(60)
    assert await bench.sweep("a")
    assert await bench.ledger.expired(bench.workspace, 10) == []
    assert await bench.records() == []
