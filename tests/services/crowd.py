"""Processes that make calls under the same limits: `python -m tests.services.crowd URL PROCESSES CALLS SEED`.

The first line of the output is the list of their ids; each ends with a line of what became of its calls. They are
forked, after all is imported, so that they begin at once.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
from collections import Counter

from msgspec.structs import replace
from tests.services.worker import new_call

from govmiddleware.core.attribution import Attribution
from govmiddleware.core.call import Call, Progress, Reading
from govmiddleware.core.demand import Demand
from govmiddleware.core.limits import Limit, Meter
from govmiddleware.core.refusals import Refusal
from govmiddleware.core.scopes import Scope
from govmiddleware.core.usage import Usage
from govmiddleware.core.windows import CalendarUnit, CalendarWindow, Lifetime, Now, SlidingWindow
from govmiddleware.ledger.connection import connect
from govmiddleware.ledger.journal import RedisJournal
from govmiddleware.ledger.ledger import RedisLedger
from govmiddleware.metrics import Metrics
from govmiddleware.services.reservations import Reservations
from govmiddleware.services.settlement_watch import SettlementWatch
from govmiddleware.services.upkeep import Upkeep

LEASE_SECONDS = 5.0
SLICE = 64
TOKEN = 1000
"""Nano-USD, of input as of output: so that one figure says what is owed in money and in tokens."""

EARLY = (
    Limit("rate", Scope.WORKSPACE, Meter.REQUESTS, SlidingWindow(60), 1600),
    Limit("slots", Scope.WORKSPACE, Meter.CONCURRENCY, Now(), 400),
)
LATE = (
    Limit("month", Scope.WORKSPACE, Meter.COST_USD, CalendarWindow(CalendarUnit.MONTH), 120_000 * TOKEN),
    Limit("user", Scope.USER, Meter.COST_USD, CalendarWindow(CalendarUnit.MONTH), 12_000 * TOKEN),
    Limit("ever", Scope.USER, Meter.TOTAL_TOKENS, Lifetime(), 15_000),
    Limit("minute", Scope.USER, Meter.TOTAL_TOKENS, SlidingWindow(60), 30_000),
)
USERS = [f"user{number}" for number in range(12)]


def a_call(dice: random.Random) -> Call:
    call = new_call()
    call.attribution = replace(Attribution(), user=dice.choice(USERS))
    size = dice.randint(1, 300)
    call.demand = Demand(
        size, output=dice.randint(1, 800), fixed_cost=size * TOKEN, output_femto=TOKEN * 10**6, grows=True
    )
    return call


class Caller:
    """Makes calls, and keeps count of what becomes of them."""

    def __init__(self, reservations: Reservations, dice: random.Random) -> None:
        self.reservations = reservations
        self.dice = dice
        self.tally: Counter[str] = Counter()

    async def make(self) -> None:
        await asyncio.sleep(self.dice.uniform(0, 4))
        call = a_call(self.dice)
        try:
            async with self.reservations.hold(call, EARLY):
                in_slices = self.dice.random() < 0.5
                async with self.reservations.hold(call, LATE, in_slices=in_slices):
                    self.tally["clamped" if call.granted_output else "admitted"] += 1
                    await self.answer(call)
        except Refusal as refusal:
            self.tally[refusal.code] += 1

    async def answer(self, call: Call) -> None:
        """A provider that stops at the output limit; a stream is asked for more as it comes, and where there is no
        more, a part of what it generates is out already."""
        bound, delivered = call.bound, 0
        assert bound is not None
        generates = self.dice.randint(0, bound.output_tokens)
        call.progress, call.status, call.reading, call.stream = Progress.DISPATCHED, 200, Reading.WHOLE, True
        while delivered < generates:
            delivered = min(generates, delivered + self.dice.randint(1, 2 * SLICE))
            await asyncio.sleep(self.dice.uniform(0, 0.1))
            if call.grow and not await call.grow(delivered):
                self.tally["cut"] += 1
                break
        call.usage = Usage(bound.input_tokens, output_tokens=delivered)


async def main(url: str, calls: int, seed: int) -> None:
    redis, metrics, dice = connect(url), Metrics(), random.Random(seed)
    ledger = RedisLedger(redis)
    upkeep = Upkeep(ledger, metrics, lease_seconds=LEASE_SECONDS, sweep_seconds=1)
    watch = SettlementWatch(ledger, RedisJournal(redis), metrics)
    reservations = Reservations(
        ledger,
        upkeep,
        watch,
        metrics,
        lease_seconds=LEASE_SECONDS,
        clamp_min_output_tokens=16,
        slice_output_tokens=SLICE,
    )
    upkeep.start()
    caller = Caller(reservations, dice)
    await asyncio.gather(*(caller.make() for _ in range(calls)))
    await upkeep.stop()
    await redis.aclose()
    line = json.dumps(caller.tally) + "\n"
    os.write(sys.stdout.fileno(), line.encode())  # in one piece, for all share the pipe


if __name__ == "__main__":
    url, processes, calls, seed = sys.argv[1], *map(int, sys.argv[2:])
    children: list[int] = []
    for number in range(processes):
        child = os.fork()
        if not child:
            asyncio.run(main(url, calls // processes, seed + number))
            os._exit(0)
        children.append(child)
    print(json.dumps(children), flush=True)
    for child in children:
        os.waitpid(child, 0)
