"""The parts of one process on a real store, without HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from govmiddleware.core.call import Call, Principal, Reading
from govmiddleware.core.demand import Demand
from govmiddleware.core.ids import new_request_id
from govmiddleware.core.journal import JournalEntry
from govmiddleware.core.limits import Limit, Meter
from govmiddleware.core.model_price import ModelPrice, Rates
from govmiddleware.core.scopes import Scope
from govmiddleware.core.usage import Usage
from govmiddleware.core.windows import Lifetime, Now
from govmiddleware.ledger.connection import connect
from govmiddleware.ledger.journal import RedisJournal
from govmiddleware.ledger.keys import WorkspaceKeys
from govmiddleware.ledger.ledger import RedisLedger
from govmiddleware.metrics import Metrics
from govmiddleware.protocols.registry import UNRECOGNISED
from govmiddleware.services.reservations import Reservations
from govmiddleware.services.settlement_watch import SettlementWatch
from govmiddleware.services.upkeep import Upkeep
from govmiddleware.testing.clock import Clock

LEASE = 0.3
"""Seconds. Loops run by the real clock, so it is short; the ledger's clock is moved."""

LIMITS = (
    Limit("ever", Scope.WORKSPACE, Meter.TOTAL_TOKENS, Lifetime(), 1000),
    Limit("slots", Scope.WORKSPACE, Meter.CONCURRENCY, Now(), 2),
)
PRICE = ModelPrice("m", 1000, "test", (Rates(input=10**9, output=10**9),))
KEYS = WorkspaceKeys("acme")


def new_call() -> Call:
    """As Estimate leaves one."""
    return Call(
        new_request_id(),
        UNRECOGNISED,
        "POST",
        "/v1/chat/completions",
        model_call=True,
        principal=Principal("acme", "ci"),
        model="m",
        price=PRICE,
        demand=Demand(100, output=200, fixed_cost=100_000, output_femto=10**9),
        estimated_input_tokens=90,
    )


class Worker:
    """The parts of one process."""

    def __init__(self, url: str, clock: Clock, sweep_seconds: float = 0.05) -> None:
        self.url = url
        self.clock = clock
        self.redis = connect(url)
        self.ledger = RedisLedger(self.redis, clock=clock)
        self.journal = RedisJournal(self.redis, clock=clock)
        self.metrics = Metrics()
        self.upkeep = Upkeep(self.ledger, self.metrics, lease_seconds=LEASE, sweep_seconds=sweep_seconds)
        self.watch = SettlementWatch(self.ledger, self.journal, self.metrics)
        self.reservations = Reservations(
            self.ledger, self.upkeep, self.watch, self.metrics, lease_seconds=LEASE
        )

    async def end(self) -> None:
        await self.upkeep.stop()
        await self.redis.aclose()

    def call(self) -> Call:
        return new_call()

    async def records(self) -> list[JournalEntry]:
        return [entry async for entry in self.journal.entries("acme")]

    async def stands(self) -> tuple[int, int]:
        """Used and reserved of the tokens."""
        name = "workspace:total_tokens:lifetime:acme"
        counter = (await self.journal.snapshot("acme", [name])).counters[name]
        return counter.buckets[0].used, counter.buckets[0].reserved

    def metric(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(f"govmiddleware_{name}", labels)


def answer(call: Call, output_tokens: int = 50) -> None:
    """As Meter leaves a call that ended well."""
    call.reading, call.status, call.delivered_output_tokens = Reading.WHOLE, 200, output_tokens
    call.usage = Usage(100, output_tokens=output_tokens)


async def until(condition: Callable[[], object]) -> None:
    """Let the loops run until it is true; the test's own timeout is the end of patience."""
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)
