"""What a reservation that grows in slices leaves in the books, without HTTP."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import pytest
from msgspec.structs import replace
from tests.services.worker import Worker, answer

from govmiddleware.core.call import Call
from govmiddleware.core.demand import Demand
from govmiddleware.core.limits import Limit, Meter, Mode
from govmiddleware.core.money import usd_text
from govmiddleware.core.scopes import Scope
from govmiddleware.core.windows import Lifetime
from govmiddleware.services import records

MONEY = Limit("money", Scope.WORKSPACE, Meter.COST_USD, Lifetime(), 10**12)
TOKENS = Limit("tokens", Scope.WORKSPACE, Meter.OUTPUT_TOKENS, Lifetime(), 10**6, mode=Mode.DRY_RUN)
CALLS = Limit("calls", Scope.WORKSPACE, Meter.REQUESTS, Lifetime(), 0, mode=Mode.DRY_RUN)


@pytest.fixture
async def worker(gov_store: str, make_worker: Callable[[str], Worker]) -> Worker:
    return make_worker(gov_store)


def stream(worker: Worker) -> Call:
    call = worker.call()
    call.demand = Demand(100, output=8000, fixed_cost=100_000, output_femto=10**9, grows=True)
    call.stream = True
    return call


async def test_what_a_dry_run_would_have_refused_takes_nothing_of_the_others_when_it_grows(
    worker: Worker, caplog: pytest.LogCaptureFixture
) -> None:
    call = stream(worker)
    async with worker.reservations.hold(call, (CALLS, TOKENS), in_slices=True):
        assert call.would_refuse is not None
        assert call.grow is not None
        assert await call.grow(2000)
        answer(call, 2000)
    [outcome] = await worker.records()
    assert outcome.holds == ()
    assert "has lost" not in caplog.text


@pytest.mark.parametrize("grows", [0, 2000])
async def test_the_books_say_of_a_stream_that_was_swept_what_it_held_and_then_what_it_used(
    worker: Worker, grows: int
) -> None:
    call = stream(worker)
    async with worker.reservations.hold(call, (MONEY,), in_slices=True):
        if grows and call.grow:
            assert await call.grow(grows)
        worker.clock.advance(60)
        assert await worker.ledger.sweep("acme", call.request_id)
        answer(call, 300)
    costs = [records.decode(entry.record).cost_usd for entry in await worker.records()]
    held = [entry.holds[0].amount for entry in await worker.records()]
    assert costs == [usd_text(amount) for amount in held]


async def test_the_books_of_a_clamped_call_that_was_swept_end_at_what_it_used(worker: Worker) -> None:
    call = stream(worker)
    tight = replace(MONEY, hard=100_000 + 500_000)
    async with worker.reservations.hold(call, (tight,)):
        assert call.granted_output == 500
        worker.clock.advance(60)
        assert await worker.ledger.sweep("acme", call.request_id)
        answer(call, 300)
    told = [Decimal(records.decode(entry.record).cost_usd or 0) for entry in await worker.records()]
    held = [entry.holds[0].amount for entry in await worker.records()]
    assert sum(told) == Decimal(usd_text(sum(held))) == Decimal("0.0004")


async def test_a_stream_that_its_workspace_refuses_to_grow_takes_no_more_of_the_deployment_each_time(
    worker: Worker,
) -> None:
    wide = Limit("wide", Scope.DEPLOYMENT, Meter.OUTPUT_TOKENS, Lifetime(), 10**6)
    own = Limit("own", Scope.WORKSPACE, Meter.OUTPUT_TOKENS, Lifetime(), 1030)
    call = stream(worker)
    async with worker.reservations.hold(call, (wide, own), in_slices=True):
        assert call.grow is not None
        assert [await call.grow(1500) for _ in range(5)] == [False] * 5
        name = "deployment:output_tokens:lifetime:deployment"
        counter = (await worker.journal.snapshot("*", [name])).counters[name]
        assert counter.buckets[0].reserved <= 2 * 1024
        answer(call, 1000)
