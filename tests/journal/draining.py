"""A drainer on a real store, and what a test does around it."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from msgspec.structs import replace
from redis.asyncio import Redis

from govmiddleware.core.history import History
from govmiddleware.core.journal import JournalEntry
from govmiddleware.core.limits import Amount, Counter, Hold, Limit, Meter
from govmiddleware.core.scopes import Scope
from govmiddleware.core.usage import Usage
from govmiddleware.core.windows import CalendarUnit, CalendarWindow, SlidingWindow
from govmiddleware.ledger.connection import connect
from govmiddleware.ledger.drain_turn import RedisDrainTurn
from govmiddleware.ledger.journal import RedisJournal
from govmiddleware.ledger.ledger import RedisLedger
from govmiddleware.metrics import Metrics
from govmiddleware.services import records
from govmiddleware.services.drain import Drainer
from govmiddleware.services.records import Record
from tests.journal.whole import whole_journal

COUNTERS = tuple(
    Counter(scope, meter, window, "ann")
    for scope in (Scope.USER, Scope.AGENT)
    for meter, window in (
        (Meter.COST_USD, CalendarWindow(CalendarUnit.MONTH)),
        (Meter.REQUESTS, SlidingWindow(60)),
        (Meter.TOTAL_TOKENS, SlidingWindow(3600)),
    )
)
"""What each call holds."""

_HOLDS = [
    Hold(counter, Amount(5), (Limit("much", counter.scope, counter.meter, counter.window, 10**12),))
    for counter in COUNTERS
]


class Draining:
    """A worker's parts: it settles calls, and drains."""

    def __init__(self, store_url: str, history: History) -> None:
        self.redis: Redis = connect(store_url)  # type: ignore[assignment]
        self.journal = RedisJournal(self.redis)
        self.ledger = RedisLedger(self.redis)
        self.history = history
        self.metrics = Metrics()
        self.seconds = 1000.0
        self.drainer = self.new_drainer()

    def new_drainer(self) -> Drainer:
        """Its clock is `seconds`."""
        turn = RedisDrainTurn(self.redis)
        return Drainer(self.journal, self.history, turn, self.metrics, lambda: self.seconds)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.redis.aclose()

    async def settle(self, *names: str, workspace: str = "acme") -> None:
        """A call each, held and settled."""
        for name in names:
            record = Record(
                kind="outcome", workspace=workspace, reservation_id=name, user="ann", usage=Usage(3, 4)
            )
            await self.ledger.acquire(workspace, name, _HOLDS, lease_ms=60_000, expired_record=b"{}")
            used = {counter.name: 3 for counter in COUNTERS}
            await self.ledger.settle(workspace, name, COUNTERS, used, records.encode(record))

    async def waiting(self, workspace: str = "acme") -> list[JournalEntry]:
        """What the store has, the holds of each record in order."""
        return [_sorted(entry) async for entry in self.journal.entries(workspace)]

    async def drained(self, workspace: str = "acme") -> list[JournalEntry]:
        """What SQL has, likewise."""
        return [_sorted(entry) async for entry in self.history.entries(workspace)]

    async def names(self, workspace: str = "acme") -> list[str | None]:
        """Of all calls that either has, in order."""
        whole = whole_journal(self.history, self.journal, workspace)
        return [records.decode(entry.record).reservation_id async for entry in whole]

    def metric(self, name: str) -> float | None:
        return self.metrics.registry.get_sample_value(f"govmiddleware_journal_{name}")


def _sorted(entry: JournalEntry) -> JournalEntry:
    holds = sorted(entry.holds, key=lambda hold: (hold.counter, hold.bucket))
    # SQL does not tell an admission at the time of the record from none.
    return replace(entry, holds=tuple(holds), admitted_ms=entry.time_ms)
