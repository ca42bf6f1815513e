"""acquire: all limits in one step, or nothing."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from tests.ledger.states import FREE, exceeded, granted

from govmiddleware.core.limits import Amount, Hold
from govmiddleware.core.money import LARGEST_LIMIT
from govmiddleware.core.ports import (
    ApiTokenRevoked,
    Granted,
    JournalFull,
    LimitsExceeded,
    Output,
    ReservationGone,
)
from govmiddleware.core.registries import StoredApiToken
from govmiddleware.ledger.api_tokens import RedisApiTokens
from govmiddleware.ledger.ledger import RedisLedger

if TYPE_CHECKING:
    from tests.ledger.conftest import Bench

MINUTE_MS = 60_000


async def test_several_limits_are_taken_in_one_step(bench: Bench) -> None:
    holds = bench.sliding(3, of=10), bench.month(400, of=1000), bench.lifetime(5, of=9), bench.slot(of=2)
    assert granted(await bench.open("a", *holds)) == [FREE, FREE, FREE, FREE]
    assert [await bench.look(hold) for hold in holds] == [(0, 3), (0, 400), (0, 5), (0, 1)]
    await bench.audited()


async def test_a_limit_lets_pass_exactly_what_it_says(bench: Bench) -> None:
    assert granted(await bench.open("a", bench.month(999, of=1000))) == [FREE]
    assert granted(await bench.open("b", bench.month(1, of=1000))) == [(0, 999, None)]
    assert isinstance(await bench.open("c", bench.month(1, of=1000)), LimitsExceeded)


async def test_reserved_and_used_count_alike(bench: Bench) -> None:
    hold = bench.month(40, of=100)
    await bench.open("a", hold)
    await bench.settle("a", 40)
    await bench.open("b", hold)
    refused = await bench.open("c", hold)
    assert isinstance(refused, LimitsExceeded)
    assert (refused.states[0].consumed, refused.states[0].reserved) == (40, 40)


async def test_a_refusal_writes_nothing(bench: Bench) -> None:
    full, free = bench.sliding(10, of=10), bench.month(1, of=1000)
    await bench.open("a", full)
    bench.clock.advance(30)
    await bench.open("told", full)  # the first one in a window is told of
    before = bench.everything()
    refused = await bench.open("b", free, full, bench.lifetime(1, of=5), bench.slot(of=1))
    assert isinstance(refused, LimitsExceeded)
    assert bench.everything() == before


async def test_a_refusal_names_the_state_of_every_limit_and_when_it_frees(bench: Bench) -> None:
    await bench.open("a", bench.sliding(9, of=10), bench.lifetime(4, of=4), bench.slot(of=1))
    await bench.open("b", bench.month(7, of=10))
    bench.clock.advance(20)
    refused = await bench.open(
        "c",
        bench.sliding(2, of=10),  # nine of them were taken 20 s ago, in a bucket of 1 s that counts whole
        bench.month(4, of=10),
        bench.lifetime(1, of=4),
        bench.slot(of=1),
        bench.hold(1, of=5, window=bench.sliding(1, of=5).counter.window, value="bob"),
    )
    month_left = (16 * 24 + 11) * 3600_000 + 30 * MINUTE_MS - 20_000
    assert exceeded(refused) == [(0, 9, 41_000), (0, 7, month_left), (0, 4, None), (0, 1, None), FREE]


async def test_what_is_said_to_free_in_time_frees_just_then(bench: Bench) -> None:
    """Not for the whole window: only as much as the call needs has to leave it."""
    bench.clock.advance(0.3)
    for name in "abc":
        await bench.open(name, bench.sliding(3, of=10))
        bench.clock.advance(7)
    refused = await bench.open("d", bench.sliding(4, of=10))
    assert isinstance(refused, LimitsExceeded)
    wait = refused.states[0].frees_in_ms
    assert wait is not None
    bench.clock.now_ms += wait - 1
    assert isinstance(await bench.open("e", bench.sliding(4, of=10)), LimitsExceeded)
    bench.clock.now_ms += 1
    assert isinstance(await bench.open("f", bench.sliding(4, of=10)), Granted)


async def test_what_is_larger_than_its_limit_is_never_said_to_free(bench: Bench) -> None:
    for hold in (bench.sliding(11, of=10), bench.month(11, of=10), bench.lifetime(11, of=10)):
        assert exceeded(await bench.open("a", hold)) == [FREE]


async def test_zero_passes_limits_that_are_used_up(bench: Bench) -> None:
    for hold in (bench.sliding, bench.month, bench.lifetime):
        await bench.open(f"a{hold.__name__}", hold(5, of=5))
        assert isinstance(await bench.open(f"b{hold.__name__}", hold(0, of=5)), Granted)
        assert isinstance(await bench.open(f"c{hold.__name__}", hold(0, of=0)), Granted)
    assert isinstance(await bench.open("d", bench.sliding(0, of=5), bench.month(1, of=5)), LimitsExceeded)


async def test_an_output_of_nothing_passes_a_limit_that_debt_has_gone_past(bench: Bench) -> None:
    used = bench.month(5, of=5)
    await bench.open("a", used)
    await bench.settle("a", 7)
    clamped = Hold(used.counter, Amount(0, per_token=1_000_000), used.limits)
    outcome = await bench.ledger.acquire(
        bench.workspace, "b", [clamped], lease_ms=1000, expired_record=b"", output=Output(most=9, least=0)
    )
    assert isinstance(outcome, Granted)
    assert outcome.output == 0


async def test_the_strictest_of_the_limits_that_share_a_counter_decides(bench: Bench) -> None:
    one, other = bench.month(6, of=10), bench.month(6, of=5)
    shared = type(one)(one.counter, one.amount, one.limits + other.limits)
    assert isinstance(await bench.open("a", shared), LimitsExceeded)


async def test_values_of_a_scope_have_counters_of_their_own(bench: Bench) -> None:
    await bench.open("a", bench.month(10, of=10, value="ann"))
    assert granted(await bench.open("b", bench.month(10, of=10, value="bob"))) == [FREE]


# Extension ---------------------------------------------------------------------------------------


async def test_an_extension_adds_to_the_same_reservation(bench: Bench) -> None:
    slot, month = bench.slot(of=2), bench.month(300, of=1000)
    await bench.open("a", slot)
    assert granted(await bench.extend("a", month)) == [FREE]
    assert [await bench.look(slot), await bench.look(month)] == [(0, 1), (0, 300)]
    assert await bench.settle("a", 0, 120)
    assert [await bench.look(slot), await bench.look(month)] == [(0, 0), (120, 0)]
    await bench.audited()


async def test_an_extension_without_limits_of_its_own_is_a_check_all_the_same(bench: Bench) -> None:
    await bench.open("a", bench.slot(of=1))
    assert granted(await bench.extend("a")) == []
    assert await bench.release("a")


async def test_an_extension_leaves_its_own_record_for_the_case_that_the_lease_runs_out(bench: Bench) -> None:
    await bench.open("a", bench.slot(of=1))
    await bench.extend("a", bench.month(300, of=1000))
    bench.clock.advance(60)
    assert await bench.sweep("a")
    assert [record.record for record in await bench.records()] == [b"a expired, extended"]


async def test_a_refused_extension_releases_all_that_was_held(bench: Bench) -> None:
    early = bench.slot(of=2), bench.sliding(1, of=5), bench.lifetime(2, of=5)
    await bench.open("other", bench.month(900, of=1000))
    await bench.open("told", bench.month(200, of=1000))  # the first one in a window is told of
    before = bench.everything()
    await bench.open("a", *early)
    assert isinstance(await bench.extend("a", bench.month(200, of=1000)), LimitsExceeded)
    assert [await bench.look(hold) for hold in early] == [(0, 0), (0, 0), (0, 0)]
    changed = {key for key, value in bench.everything().items() if before.get(key) != value}
    assert changed == {bench.keys.counter(hold.counter.name) for hold in early[1:]}
    assert not await bench.settle("a", 0, 1, 2, 200)
    assert await bench.records() == []
    await bench.audited()


async def test_an_extension_of_what_is_not_open_is_refused_and_takes_nothing(bench: Bench) -> None:
    await bench.open("settled", bench.slot(of=9))
    await bench.settle("settled", 0)
    await bench.open("cancelled", bench.slot(of=9))
    await bench.cancel("cancelled")
    await bench.open("swept", bench.slot(of=9))
    bench.clock.advance(60)
    await bench.sweep("swept")
    before = bench.everything()
    for name in ("settled", "cancelled", "swept"):
        assert await bench.extend(name, bench.month(1, of=1)) == ReservationGone()
    assert bench.everything() == before


async def test_an_id_is_opened_once(bench: Bench) -> None:
    await bench.open("a", bench.month(1, of=10))
    before = bench.everything()
    assert await bench.open("a", bench.month(1, of=10)) == ReservationGone()
    assert bench.everything() == before


async def test_an_extension_renews_the_lease(bench: Bench) -> None:
    await bench.open("a")
    bench.clock.advance(59)
    await bench.extend("a", bench.slot(of=1))
    bench.clock.advance(59)
    assert not await bench.sweep("a")
    assert await bench.settle("a", 0)


# What else may say no ----------------------------------------------------------------------------


@pytest.fixture
async def token(bench: Bench) -> StoredApiToken:
    token = StoredApiToken("tok_1", "ci", bench.workspace, "operator", 0)
    await RedisApiTokens(bench.redis).add(token, "0" * 64)
    return token


async def test_a_revoked_api_token_is_refused_at_the_next_admission(
    bench: Bench, token: StoredApiToken
) -> None:
    assert isinstance(await bench.open("a", api_token=token.id), Granted)
    assert await RedisApiTokens(bench.redis).revoke(token)
    before = bench.everything()
    assert await bench.open("b", bench.slot(of=9), api_token=token.id) == ApiTokenRevoked()
    assert await bench.extend("a", bench.month(1, of=9), api_token=token.id) == ApiTokenRevoked()
    assert bench.everything() == before
    assert await bench.release("a"), "the open call stays open"


async def test_an_api_token_that_the_store_never_heard_of_is_revoked(bench: Bench) -> None:
    assert await bench.open("a", api_token="tok_unknown") == ApiTokenRevoked()


async def test_a_full_journal_refuses_new_calls_and_lets_open_ones_end(bench: Bench) -> None:
    bench.ledger = RedisLedger(bench.redis, journal_max_records=1, clock=bench.clock)
    await bench.open("a", bench.slot(of=9))
    await bench.open("b", bench.slot(of=9))
    assert await bench.settle("a", 0)
    before = bench.everything()
    assert await bench.open("c", bench.slot(of=9)) == JournalFull()
    assert bench.everything() == before
    assert await bench.ledger.journal_is_full()
    assert isinstance(await bench.extend("b", bench.month(1, of=9)), Granted)
    assert await bench.settle("b", 0, 1)
    assert len(await bench.records()) == 2


# Numbers -----------------------------------------------------------------------------------------


async def test_the_largest_amounts_are_exact_and_never_in_exponent_form(bench: Bench) -> None:
    largest = LARGEST_LIMIT
    for kind in (bench.sliding, bench.month, bench.lifetime):
        name = kind.__name__
        assert isinstance(await bench.open(f"a{name}", kind(largest - 1, of=largest)), Granted)
        refused = await bench.open(f"b{name}", kind(2, of=largest))
        assert isinstance(refused, LimitsExceeded)
        assert refused.states[0].reserved == largest - 1
        assert isinstance(await bench.open(f"c{name}", kind(1, of=largest)), Granted)
        assert await bench.look(kind(0, of=largest)) == (0, largest)
        await bench.settle(f"a{name}", largest - 1)
        await bench.settle(f"c{name}", 1)
        assert await bench.look(kind(0, of=largest)) == (largest, 0)
    await bench.audited()
    for key in bench.raw.scan_iter(f"{bench.keys.counter_prefix}*"):
        assert all(re.fullmatch(r"\d+", str(value)) for value in bench.raw.hvals(key))


async def test_the_largest_limit_still_refuses_exactly_when_it_is_used_up(bench: Bench) -> None:
    """Used up to it, and once more as much: 2^53, the last number that Lua has exact."""
    await bench.open("a", bench.lifetime(LARGEST_LIMIT, of=LARGEST_LIMIT))
    await bench.settle("a", LARGEST_LIMIT)
    refused = await bench.open("b", bench.lifetime(LARGEST_LIMIT, of=LARGEST_LIMIT))
    assert exceeded(refused) == [(LARGEST_LIMIT, 0, None)]
    assert exceeded(await bench.open("c", bench.lifetime(1, of=LARGEST_LIMIT))) == [(LARGEST_LIMIT, 0, None)]


async def test_a_refusal_names_the_expired_reservations_that_may_fill_the_limit(bench: Bench) -> None:
    await bench.open("dead", bench.slot(of=1))
    bench.clock.advance(61)
    refused = await bench.open("next", bench.slot(of=1))
    assert isinstance(refused, LimitsExceeded)
    assert refused.expired == ("dead",)
