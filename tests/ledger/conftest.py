"""A bench: one workspace of a real store, with a clock that the test moves."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
import redis as sync_redis
from redis.asyncio import Redis

from govmiddleware.core.limits import Counter, Hold, Limit, Meter, Scope
from govmiddleware.core.ports import AcquireOutcome, Granted, JournalEntry, Settled
from govmiddleware.core.windows import (
    CalendarUnit,
    CalendarWindow,
    Lifetime,
    Now,
    SlidingWindow,
    Window,
)
from govmiddleware.ledger.connection import connect
from govmiddleware.ledger.embedded import _find_binary
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
        self.redis: Redis = connect(url)
        self.ledger = RedisLedger(self.redis, clock=clock)
        self.journal = RedisJournal(self.redis)
        self.raw = sync_redis.Redis.from_url(url, decode_responses=True)
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
        return Hold(Counter(scope, meter, window, value), amount, (limit,))

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
        held = tuple(self._held[name])
        self._held[name] += holds
        return await self.ledger.acquire(
            self.workspace,
            name,
            holds,
            lease_ms=round(lease * 1000),
            api_token_id=api_token,
            expired_record=f"{name} expired, extended".encode(),
            extend=held,
        )

    async def settle(self, name: str, *amounts: int) -> bool:
        """With the amounts used, in the order of the holds."""
        holds = self._held[name]
        used = {hold.counter.name: amount for hold, amount in zip(holds, amounts, strict=True)}
        return await self._was_open(name, used, f"{name} settled".encode())

    async def release(self, name: str) -> bool:
        return await self._was_open(name, {}, None)

    async def _was_open(self, name: str, used: dict[str, int], record: bytes | None) -> bool:
        settled = await self.ledger.settle(self.workspace, name, self._held[name], used, record)
        return settled is not Settled.NOT_OPEN

    async def cancel(self, name: str, *holds: Hold) -> None:
        await self.ledger.cancel(
            self.workspace, name, self._held.get(name, holds), lease_ms=round(LEASE * 1000)
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
        outcome = await self.open(name, Hold(hold.counter, 0, hold.limits))
        assert isinstance(outcome, Granted)
        await self.release(name)
        return outcome.states[0].consumed, outcome.states[0].reserved

    async def records(self) -> list[JournalEntry]:
        return [entry async for entry in self.journal.entries(self.workspace)]

    async def audited(self) -> None:
        """Fails unless the books are in order."""
        findings = await audit(self.journal)
        assert findings.ok, findings.shown()

    def everything(self) -> dict[str, bytes]:
        """All that is stored, but for the time last seen."""
        with sync_redis.Redis.from_url(self.url) as redis:
            return {
                key.decode(): redis.dump(key)
                for key in redis.scan_iter(count=1000)
                if key.decode() != self.keys.state
            }

    # Time ----------------------------------------------------------------------------------------

    def at(self, text: str) -> None:
        """Set the clock to `2026-07-15 12:30:00`, UTC."""
        self.clock.now_ms = milliseconds(text)


def milliseconds(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


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


@contextmanager
def valkey(home: Path, *options: str) -> Iterator[str]:
    """A server with nothing in it, for what must not be done to the one that the tests share."""
    with socket.socket() as first, socket.socket() as second:
        for each in (first, second):
            each.bind(("127.0.0.1", 0))
        port, bus = first.getsockname()[1], second.getsockname()[1]
    home.mkdir()
    command = [str(_find_binary()), "--port", str(port), "--bind", "127.0.0.1", "--dir", str(home)]
    command += ["--save", "", "--cluster-port", str(bus), *options]
    with (home / "log").open("wb") as log, ExitStack() as stack:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        stack.callback(process.wait, 10)
        stack.callback(process.kill)
        redis = stack.enter_context(sync_redis.Redis(port=port))
        until(lambda: _answers(redis))
        yield f"redis://127.0.0.1:{port}"


@pytest.fixture
def start_valkey(tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Starts a server with these options; returns its URL."""
    with ExitStack() as stack:
        yield lambda *options: stack.enter_context(valkey(tmp_path / "valkey", *options))


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


def until(condition: Callable[[], object], seconds: float = 10) -> None:
    """Wait for another process."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.01)


def _answers(redis: sync_redis.Redis) -> bool:
    try:
        return bool(redis.ping())
    except sync_redis.ConnectionError:
        return False
