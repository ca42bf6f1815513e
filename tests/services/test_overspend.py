"""What debt can come to, and what clamping is good for: with real parts, on random traces."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from itertools import count

import pytest
from tests.services.worker import LEASE, Worker, new_call

from govmiddleware.core.call import Call, Progress, Reading
from govmiddleware.core.demand import Demand
from govmiddleware.core.limits import Limit, Meter
from govmiddleware.core.refusals import Refusal
from govmiddleware.core.scopes import Scope
from govmiddleware.core.usage import Usage
from govmiddleware.core.windows import Lifetime
from govmiddleware.services.reservations import Reservations

HARD, SLICE, TOKEN = 5000, 64, 1000
LIMITS = (Limit("ever", Scope.WORKSPACE, Meter.COST_USD, Lifetime(), HARD * TOKEN),)
workspaces = map("trace{}".format, count())


class Trace:
    """One workspace, and what is in its counter, in tokens."""

    def __init__(self, worker: Worker, *, clamp_min_output_tokens: int = 16) -> None:
        self.worker, self.workspace = worker, next(workspaces)
        self.reservations = Reservations(
            worker.ledger,
            worker.upkeep,
            worker.watch,
            worker.metrics,
            lease_seconds=LEASE,
            clamp_min_output_tokens=clamp_min_output_tokens,
            slice_output_tokens=SLICE,
        )

    def call(self, output: int) -> Call:
        call = new_call()
        call.principal = replace(call.require_principal(), workspace=self.workspace)
        call.demand = Demand(0, output=output, fixed_cost=0, output_femto=TOKEN * 10**6, grows=True)
        return call

    async def total(self) -> int:
        """Used and reserved."""
        name = f"workspace:cost_usd:lifetime:{self.workspace}"
        counters = (await self.worker.journal.snapshot(self.workspace, [name])).counters
        bucket = counters[name].buckets[0]
        return (bucket.used + bucket.reserved) // TOKEN

    def exposure(self) -> int:
        """The formula, as the gauge has it."""
        return round((self.worker.metric("overspend_bound_usd") or 0) * 1e9) // TOKEN


def generated(call: Call, tokens: int) -> None:
    """As Meter leaves a call that generated so much."""
    call.progress, call.status, call.reading = Progress.DISPATCHED, 200, Reading.WHOLE
    call.usage = Usage(0, output_tokens=tokens)


@pytest.mark.parametrize("seed", range(10))
async def test_debt_never_exceeds_what_the_formula_said_when_the_limit_was_last_kept(
    make_worker: Callable[..., Worker], gov_store: str, seed: int
) -> None:
    """Streams that generate some part of what they may, and grow some of the way."""
    dice = random.Random(seed)
    trace = Trace(make_worker(gov_store))
    allowed = 0
    opened: list[tuple[Call, AsyncExitStack]] = []

    async def look() -> None:
        nonlocal allowed
        over = await trace.total() - HARD
        if over <= 0:
            allowed = trace.exposure()
        assert over <= allowed

    for _ in range(8):
        call, stack = trace.call(dice.randint(1, 3000)), AsyncExitStack()
        try:
            await stack.enter_async_context(trace.reservations.hold(call, LIMITS, in_slices=True))
        except Refusal:
            continue
        opened.append((call, stack))
        await look()
    while opened:
        call, stack = one = dice.choice(opened)
        bound, reserved = call.bound, call.reserved
        assert bound is not None
        assert reserved is not None
        more = reserved.output_tokens + dice.randint(1, 600)
        if dice.random() < 0.2 or call.grow is None or not await call.grow(more):
            generated(call, bound.output_tokens * dice.choice([0, 30, 100]) // 100)
            await stack.aclose()
            opened.remove(one)
        await look()
    assert trace.exposure() == 0


async def test_debt_can_come_to_just_what_the_formula_says(
    make_worker: Callable[..., Worker], gov_store: str
) -> None:
    """Of streams that were open when the limit had no more room, and whose providers did not stop."""
    trace = Trace(make_worker(gov_store))
    async with AsyncExitStack() as stack:
        calls = [trace.call(4000), trace.call(4000)]
        for call in calls:
            await stack.enter_async_context(trace.reservations.hold(call, LIMITS, in_slices=True))
            generated(call, 4000)
        assert calls[0].grow is not None
        assert await calls[0].grow(HARD - SLICE - 1000)
        room = HARD - await trace.total()
        allowed = trace.exposure()
    assert await trace.total() - HARD == allowed - room


async def test_clamping_serves_more_of_a_trace_and_spends_no_more_than_the_limit(
    make_worker: Callable[..., Worker], gov_store: str, capsys: pytest.CaptureFixture[str]
) -> None:
    served = {"with": 0, "without": 0}
    wanted = 0
    for seed in range(8):
        dice = random.Random(seed)
        calls = [(bound, dice.randint(1, bound)) for bound in (dice.randint(50, 2000) for _ in range(12))]
        wanted += sum(output for _, output in calls)
        for how, least in {"with": 16, "without": 10**6}.items():
            trace = Trace(make_worker(gov_store), clamp_min_output_tokens=least)
            for bound, output in calls:
                served[how] += await serve(trace, bound, output)
                assert await trace.total() <= HARD
    with capsys.disabled():
        print(
            f" served with clamping {served['with'] / wanted:.1%}, without {served['without'] / wanted:.1%}"
        )
    assert served["with"] > served["without"]


async def serve(trace: Trace, bound: int, output: int) -> int:
    """What a call gets of the output that its answer would have."""
    call = trace.call(bound)
    try:
        async with trace.reservations.hold(call, LIMITS):
            got = min(output, bound if call.granted_output is None else call.granted_output)
            generated(call, got)
            return got
    except Refusal:
        return 0
