"""A bench: one workspace of a real store, with a clock that the test moves."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.stores.kinds import KINDS, administrator, as_parameters
from tests.stores.server import Server, valkey_binary

from govmiddleware.core.history import History
from govmiddleware.core.journal import JournalEntry
from govmiddleware.core.limits import Amount, Counter, Hold, Limit, Meter
from govmiddleware.core.ports import AcquireOutcome, Granted, Settled, Step
from govmiddleware.core.scopes import Scope
from govmiddleware.core.windows import (
    CalendarUnit,
    CalendarWindow,
    Lifetime,
    Now,
    SlidingWindow,
    Window,
)
from govmiddleware.ledger.connection import ask_each_node, connect
from govmiddleware.ledger.journal import RedisJournal
from govmiddleware.ledger.keys import WorkspaceKeys
from govmiddleware.ledger.ledger import RedisLedger
from govmiddleware.services.audit import audit
from govmiddleware.testing.clock import Clock

LEASE = 60
"""Seconds."""


class Bench:
    """The ledger and the journal of workspace `acme`, and short words for what a test does with them.

    Attributes:
        raw: a second client, for looking at what is stored and for doing it harm.
    """

    workspace = "acme"

    def __init__(self, url: str, clock: Clock) -> None:
        self.url = url
        self.clock = clock
        self.redis = connect(url)
        self.ledger = RedisLedger(self.redis, clock=clock)
        self.journal = RedisJournal(self.redis, clock=clock)
        self.raw = administrator(url)
        self.keys = WorkspaceKeys(self.workspace)
        self._held: dict[str, list[Hold]] = {}
        self._looks = 0

    async def close(self) -> None:
        self.raw.close()
        await self.redis.aclose()

    # Holds ---------------------------------------------------------------------------------------

    @staticmethod
    def hold(
        amount: int,
        *,
        of: int,
        window: Window,
        meter: Meter = Meter.TOTAL_TOKENS,
        scope: Scope = Scope.USER,
        value: str = "ann",
    ) -> Hold:
        limit = Limit(f"{scope}-{window.name}", scope, meter, window, of)
        return Hold(Counter(scope, meter, window, value), Amount(amount), (limit,))

    def sliding(self, amount: int, *, of: int, seconds: int = 60, value: str = "ann") -> Hold:
        return self.hold(amount, of=of, window=SlidingWindow(seconds), value=value)

    def month(self, amount: int, *, of: int, value: str = "ann") -> Hold:
        return self.calendar(amount, CalendarUnit.MONTH, of=of, value=value)

    def calendar(self, amount: int, unit: CalendarUnit, *, of: int, value: str = "ann") -> Hold:
        return self.hold(amount, of=of, window=CalendarWindow(unit), meter=Meter.COST_USD, value=value)

    def lifetime(self, amount: int, *, of: int, value: str = "ann") -> Hold:
        return self.hold(amount, of=of, window=Lifetime(), value=value)

    def slot(self, amount: int = 1, *, of: int) -> Hold:
        return self.hold(amount, of=of, window=Now(), meter=Meter.CONCURRENCY, scope=Scope.WORKSPACE)

    # What workers do -----------------------------------------------------------------------------

    async def open(
        self, name: str, *holds: Hold, api_token: str | None = None, lease: float = LEASE
    ) -> AcquireOutcome:
        self._held[name] = list(holds)
        return await self.ledger.acquire(
            self.workspace,
            name,
            holds,
            lease_ms=round(lease * 1000),
            api_token_id=api_token,
            expired_record=f"{name} expired".encode(),
        )

    async def extend(
        self, name: str, *holds: Hold, api_token: str | None = None, lease: float = LEASE
    ) -> AcquireOutcome:
        held = _counters(self._held[name])
        self._held[name] += holds
        return await self.ledger.acquire(
            self.workspace,
            name,
            holds,
            lease_ms=round(lease * 1000),
            api_token_id=api_token,
            expired_record=f"{name} expired, extended".encode(),
            step=Step.EXTEND,
            held=held,
        )

    async def settle(self, name: str, *amounts: int) -> bool:
        """With the amounts used, in the order of the holds."""
        holds = self._held[name]
        used = {hold.counter.name: amount for hold, amount in zip(holds, amounts, strict=True)}
        return await self._was_open(name, used, f"{name} settled".encode())

    async def release(self, name: str) -> bool:
        return await self._was_open(name, {}, None)

    async def _was_open(self, name: str, used: dict[str, int], record: bytes | None) -> bool:
        settled = await self.ledger.settle(self.workspace, name, _counters(self._held[name]), used, record)
        return settled in (Settled.WHOLE, Settled.IN_PART)

    async def cancel(self, name: str, *holds: Hold) -> None:
        await self.ledger.cancel(
            self.workspace, name, _counters(self._held.get(name, holds)), lease_ms=round(LEASE * 1000)
        )

    async def renew(self, name: str, lease: float = LEASE) -> bool:
        return await self.ledger.renew(self.workspace, name, round(lease * 1000))

    async def sweep(self, name: str) -> bool:
        return await self.ledger.sweep(self.workspace, name)

    # Looking -------------------------------------------------------------------------------------

    async def look(self, hold: Hold) -> tuple[int, int]:
        """Used and reserved of the counter of `hold`, as an admission sees them now."""
        self._looks += 1
        name = f"look{self._looks}"
        outcome = await self.open(name, Hold(hold.counter, Amount(0), hold.limits))
        assert isinstance(outcome, Granted)
        await self.release(name)
        return outcome.states[0].consumed, outcome.states[0].reserved

    async def records(self) -> list[JournalEntry]:
        return [entry async for entry in self.journal.entries(self.workspace)]

    async def audited(self, history: History | None = None) -> None:
        """Fails unless the books are in order."""
        findings = await audit(self.journal, history)
        assert findings.ok, findings.shown()

    def everything(self) -> dict[str, bytes]:
        """All that is stored, but for the time last seen."""
        with administrator(self.url, decode_responses=False) as redis:
            return {
                key.decode(): redis.dump(key)
                for key in redis.scan_iter(count=1000)
                if key.decode() != self.keys.state
            }

    async def script_calls(self) -> int:
        """How often scripts were run by their hash so far."""
        stats = [
            info.get("cmdstat_evalsha") for info in await ask_each_node(self.redis, "INFO", "commandstats")
        ]
        return sum(each["calls"] for each in stats if each)

    # Time ----------------------------------------------------------------------------------------

    def at(self, text: str) -> None:
        """Set the clock to `2026-07-15 12:30:00`, UTC."""
        self.clock.now_ms = milliseconds(text)


def _counters(holds: Iterable[Hold]) -> tuple[Counter, ...]:
    return tuple(counter for hold in holds for counter in hold.counters())


def milliseconds(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


@pytest.fixture(scope="session", params=as_parameters())
def gov_server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Every kind of store: the same tests hold on all."""
    with KINDS[request.param](tmp_path_factory.mktemp("store") / request.param) as url:
        yield url


@pytest.fixture
def gov_store(gov_server: str) -> str:
    with administrator(gov_server) as redis:
        redis.flushall()
    return gov_server


@pytest.fixture
async def bench(gov_store: str, gov_clock: Clock) -> AsyncIterator[Bench]:
    """Begins at 2026-07-15 12:30:00 UTC, a Wednesday; on a bucket's border of every sliding window."""
    bench = Bench(gov_store, gov_clock)
    bench.at("2026-07-15 12:30:00")
    yield bench
    await bench.close()


@pytest.fixture
def make_bench(gov_store: str) -> Callable[[Clock], Bench]:
    """For tests that bring an event loop of their own; they close it too."""
    return lambda clock: Bench(gov_store, clock)


# Servers of one's own ----------------------------------------------------------------------------


@pytest.fixture
def start_valkey(tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Starts a server with these options, for what must not be done to the one that the tests share;
    returns its URL."""
    with ExitStack() as stack:
        yield lambda *options: stack.enter_context(Server(valkey_binary(), tmp_path / "valkey", *options)).url


@pytest.fixture
async def bench_on(gov_clock: Clock) -> AsyncIterator[Callable[[str], Bench]]:
    """Makes a bench on a server of one's own."""
    benches = []

    def make(url: str) -> Bench:
        benches.append(Bench(url, gov_clock))
        return benches[-1]

    yield make
    for bench in benches:
        await bench.close()
