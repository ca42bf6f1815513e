"""Never more than the hard value, but for debt: 8 processes, 2,000 calls, kills at random."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from decimal import Decimal
from pathlib import Path

import pytest
from tests.services.crowd import EARLY, LATE, TOKEN, USERS
from tests.services.worker import Worker

from govmiddleware.core.journal import Bucket, CounterBuckets, Snapshot
from govmiddleware.core.limits import Meter
from govmiddleware.core.scopes import Scope
from govmiddleware.ledger.ledger import RedisLedger
from govmiddleware.services import records
from govmiddleware.services.audit import audit

PROCESSES, CALLS, KILLS = 8, 2000, 3

LIMITS = {
    f"{limit.scope}:{limit.meter}:{limit.window.name}:{value}": (limit, value)
    for limit in (*EARLY, *LATE)
    for value in (USERS if limit.scope == Scope.USER else ["acme"])
}


class Sampler:
    """Looks at all counters and the end of the journal in one step, again and again."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.debt: Counter[str] = Counter()
        """Tokens that were settled past what was reserved, of the workspace and of each user."""
        self.read_to = ""
        self.samples = 0
        self.kinds: Counter[str | None] = Counter()

    async def look(self) -> Snapshot:
        snapshot = await self.worker.journal.snapshot("acme", sorted(LIMITS))
        await self.read_journal(snapshot.last_record_id)
        for name, counter in snapshot.counters.items():
            limit, value = LIMITS[name]
            over = total(counter) - limit.hard
            unit = TOKEN if limit.meter is Meter.COST_USD else 1
            owed = 0 if limit in EARLY else self.debt[value] * unit
            assert over <= owed, f"{name}: {total(counter)} of {limit.hard}, and a debt of {owed}"
        self.samples += 1
        return snapshot

    async def read_journal(self, until: str) -> None:
        async for entry in self.worker.journal.entries("acme", after=self.read_to, until=until):
            record = records.decode(entry.record)
            self.kinds[record.kind if record.settlement != "expired" else "expired"] += 1
            cost, reserved = in_tokens(record.cost_usd), in_tokens(record.reserved_usd)
            past = cost if record.kind == "correction" else cost - reserved
            assert past <= in_tokens((record.bound or {}).get("cost_usd")) - reserved
            if past > 0:
                self.debt["acme"] += past
                self.debt[record.user or ""] += past
        self.read_to = until


def total(counter: CounterBuckets) -> int:
    """Used and reserved in the current window."""
    current = counter.buckets.get(max(counter.buckets, default=0), Bucket(0, 0))
    now = counter.sums or current
    return now.used + now.reserved


def in_tokens(usd: object) -> int:
    return int(Decimal(str(usd or 0)) * 10**9) // TOKEN


@pytest.fixture
async def crowd(gov_store: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.services.crowd", gov_store, str(PROCESSES), str(CALLS), "1"),
        stdout=asyncio.subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    yield process
    await process.wait()


async def test_no_limit_ever_holds_more_than_its_hard_value_and_the_debt(
    crowd: asyncio.subprocess.Process, make_worker: Callable[..., Worker], gov_store: str
) -> None:
    worker = make_worker(gov_store)
    sampler = Sampler(worker)
    assert crowd.stdout is not None
    victims = random.sample(json.loads(await crowd.stdout.readline()), KILLS)
    ended = asyncio.ensure_future(crowd.stdout.read())
    while not ended.done():
        await sampler.look()
        if victims and sampler.kinds["outcome"] > 10 * (KILLS - len(victims) + 1):
            os.kill(victims.pop(), signal.SIGKILL)
        await asyncio.wait([ended], timeout=0.02)
    assert not victims

    worker.ledger = RedisLedger(worker.redis, clock=lambda: worker.clock.now_ms + 3_600_000)
    for reservation_id in await worker.ledger.expired("acme", CALLS):
        assert await worker.ledger.sweep("acme", reservation_id)
    assert (await sampler.look()).reservations == ()
    findings = await audit(worker.journal)
    assert findings.ok, findings.shown()
    tally: Counter[str] = Counter()
    for line in ended.result().splitlines():
        tally.update(json.loads(line))
    # It was as wild as it was meant to be.
    assert sampler.kinds["expired"]
    assert sampler.debt["acme"]
    assert {"admitted", "cut", "insufficient_quota"} <= tally.keys()
    print(sampler.samples, "samples", dict(sampler.kinds), dict(tally))
