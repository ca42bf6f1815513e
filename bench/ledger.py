"""What one request costs the store, and what one counter weighs: `python bench/ledger.py`.

Starts an embedded store of its own (append-only file, fsync every second) in a folder that is gone afterwards. Prints
a table, and writes it to `bench/results/ledger.json`. Times are the server's own: deltas of `INFO commandstats` and of
`LATENCY HISTOGRAM`, whose buckets double in width, so that a p99 is the upper edge of its bucket; `cpu` is that of its
main thread, so it has reading, answering and the append-only file too.
"""

from __future__ import annotations

import asyncio
import json
import math
import platform
import tempfile
import time
from collections import Counter as Tally
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from govmiddleware.core.limits import Amount, Counter, Hold, Limit, Meter, holds_for
from govmiddleware.core.ports import Granted, Output, Step
from govmiddleware.core.windows import CalendarUnit, CalendarWindow, Lifetime, Now, SlidingWindow, Window
from govmiddleware.ledger.connection import connect
from govmiddleware.ledger.embedded import EmbeddedStore
from govmiddleware.ledger.keys import WorkspaceKeys
from govmiddleware.ledger.ledger import RedisLedger

WORKSPACE = "acme-research"
LEASE_MS = 60_000
OPEN = 64
"""Reservations that are open at any time."""
GAP_MS = 25
"""Between two calls, by the ledger's clock: 40 a second."""
WARM_UP_MS = 130_000
"""Longer than twice the shorter windows: from then on they are full, and buckets leave them."""
BATCHES = 60
COUNTERS = 10_000
BARS = {"six_cpu_us": 180.0, "monthly_counter_bytes": 250.0}

ROOMY = 2**50
DAY, MONTH = CalendarWindow(CalendarUnit.DAY), CalendarWindow(CalendarUnit.MONTH)


def limit(name: str, scope: str, meter: Meter, window: Window) -> Limit:
    return Limit(name, scope, meter, window, ROOMY, soft=ROOMY * 8 // 10)


SIX = [
    limit("token-minute", "api_token", Meter.REQUESTS, SlidingWindow(60)),
    limit("token-tokens", "api_token", Meter.TOTAL_TOKENS, SlidingWindow(60)),
    limit("slots", "api_token", Meter.CONCURRENCY, Now()),
    limit("user-month", "user", Meter.COST_USD, MONTH),
    limit("session-budget", "session", Meter.COST_USD, DAY),
    limit("ws-month", "workspace", Meter.COST_USD, MONTH),
]
TWELVE = [
    limit("token-requests-minute", "api_token", Meter.REQUESTS, SlidingWindow(60)),
    limit("user-requests-minute", "user", Meter.REQUESTS, SlidingWindow(60)),
    limit("token-tokens-minute", "api_token", Meter.TOTAL_TOKENS, SlidingWindow(60)),
    limit("workspace-cost-hour", "workspace", Meter.COST_USD, SlidingWindow(3600)),
    limit("token-slots", "api_token", Meter.CONCURRENCY, Now()),
    limit("workspace-month", "workspace", Meter.COST_USD, MONTH),
    limit("team-month", "tag:team", Meter.COST_USD, MONTH),
    limit("user-month", "user", Meter.COST_USD, MONTH),
    limit("user-model-month", "user+model", Meter.COST_USD, MONTH),
    limit("agent-day", "agent", Meter.COST_USD, DAY),
    limit("user-output-day", "user", Meter.OUTPUT_TOKENS, DAY),
    limit("session-life", "session", Meter.TOTAL_TOKENS, Lifetime()),
]


def subject(number: int) -> dict[str, str]:
    """One of twenty users, on one of three agents."""
    return {
        "workspace": WORKSPACE,
        "api_token": "tok_01jx2m9k3f8q5r7w",
        "user": f"ann.example.{number % 20:02}@acme.example",
        "session": f"5f0c7d1e-94a2-4b7e-8f6d-{number % 20:012}",
        "agent": f"research-agent-{number % 3}",
        "model": "gpt-4o-2024-08-06",
        "tag:team": "search-relevance",
    }


AMOUNTS = {
    Meter.REQUESTS: Amount(1),
    Meter.OUTPUT_TOKENS: Amount(0, 1_000_000),
    Meter.TOTAL_TOKENS: Amount(1234, 1_000_000),
    Meter.COST_USD: Amount(3_085_000, 10_000_000_000),
    Meter.CONCURRENCY: Amount(1),
}


@dataclass
class Timed:
    """What the server spent on calls of one kind."""

    calls: int = 0
    usec: int = 0
    cpu_usec: float = 0
    histogram: Tally[int] | None = None

    def p99(self) -> int:
        assert self.histogram is not None
        left = math.ceil(0.99 * self.histogram.total())
        for edge, count in sorted(self.histogram.items()):
            left -= count
            if left <= 0:
                return edge
        raise AssertionError("nothing was timed")


class LedgerBench:
    def __init__(self, url: str, limits: Sequence[Limit]) -> None:
        self.limits = limits
        self.redis: Any = connect(url)
        self.now_ms = time.time_ns() // 1_000_000
        self.ledger = RedisLedger(self.redis, clock=lambda: self.now_ms)
        self.open: list[tuple[str, Sequence[Hold]]] = []
        self.calls = 0
        self.record = json.dumps({"kind": "outcome", "evaluations": "x" * 1500}).encode()

    async def acquire(self) -> None:
        self.now_ms += GAP_MS
        self.calls += 1
        holds = holds_for(self.limits, subject(self.calls), AMOUNTS)
        name = f"req_{self.calls:032x}"
        outcome = await self.ledger.acquire(
            WORKSPACE,
            name,
            holds,
            lease_ms=LEASE_MS,
            expired_record=self.record,
            output=Output(1024, 64),
            step=Step.OPEN,
        )
        assert isinstance(outcome, Granted)
        assert len(holds) == len(self.limits)
        self.open.append((name, holds))

    async def settle(self) -> None:
        name, holds = self.open.pop(0)
        used = {hold.counter.name: hold.amount.at(300) for hold in holds}
        await self.ledger.settle(WORKSPACE, name, [hold.counter for hold in holds], used, self.record)

    async def warm_up(self) -> None:
        for _ in range(OPEN):
            await self.acquire()
        for _ in range(WARM_UP_MS // GAP_MS):
            await self.settle()
            await self.acquire()

    async def timed(self, work: Any, times: int, into: Timed) -> None:
        """Run it so often, and add what the server says it spent."""
        before = await self.spent()
        for _ in range(times):
            await work()
        after = await self.spent()
        into.calls += after.calls - before.calls
        into.usec += after.usec - before.usec
        into.cpu_usec += after.cpu_usec - before.cpu_usec
        into.histogram = (into.histogram or Tally()) + (
            (after.histogram or Tally()) - (before.histogram or Tally())
        )

    async def spent(self) -> Timed:
        stats = (await self.redis.info("commandstats"))["cmdstat_evalsha"]
        answer = await self.redis.execute_command("LATENCY", "HISTOGRAM", "evalsha")
        flat = answer[1][3]
        edges, totals = flat[::2], flat[1::2]
        counts = [total - before for total, before in zip(totals, [0, *totals], strict=False)]
        cpu = await self.redis.info("cpu")
        cpu_usec = 1e6 * (cpu["used_cpu_user_main_thread"] + cpu["used_cpu_sys_main_thread"])
        return Timed(stats["calls"], stats["usec"], cpu_usec, Tally(dict(zip(edges, counts, strict=True))))

    async def weigh(self) -> tuple[float, int]:
        """Bytes of a monthly counter of a user, and the length of its name."""
        month = limit("user-month", "user", Meter.COST_USD, MONTH)
        name = f"user:{Meter.COST_USD}:month:"
        counters = [
            Counter("user", Meter.COST_USD, MONTH, f"{number:0{40 - len(name)}}")
            for number in range(COUNTERS)
        ]
        before = await self.used_memory()
        for start in range(0, COUNTERS, 100):
            some = counters[start : start + 100]
            holds = [Hold(counter, Amount(3_085_000), (month,)) for counter in some]
            await self.ledger.acquire("weighing", "all", holds, lease_ms=LEASE_MS, expired_record=b"")
            used = {counter.name: 2_085_000 for counter in some}
            await self.ledger.settle("weighing", "all", some, used, None)
        key = WorkspaceKeys("weighing").counter(counters[0].name)
        assert await self.redis.hlen(key) <= 2, await self.redis.hgetall(key)
        return (await self.used_memory() - before) / COUNTERS, len(counters[0].name)

    async def used_memory(self) -> int:
        return int((await self.redis.info("memory"))["used_memory"])


async def measure(url: str) -> dict[str, Any]:
    bench = LedgerBench(url, ())
    for option, value in {"slowlog-log-slower-than": "-1", "latency-tracking": "yes"}.items():
        await bench.redis.config_set(option, value)
    memory = await bench.redis.info("memory")
    server = await bench.redis.info("server")
    weight, length = await bench.weigh()
    config = await bench.redis.config_get("append*")
    await bench.redis.aclose()
    return {
        **await request_of(url, "six", SIX),
        **await request_of(url, "twelve", TWELVE),
        "monthly_counter_bytes": round(weight, 1),
        "calls": BATCHES * OPEN,
        "counter_name_bytes": length,
        "allocator": memory["mem_allocator"],
        "store": f"{server.get('server_name', 'redis')} {server.get('valkey_version', server['redis_version'])}",
        "appendonly": config["appendonly"],
        "appendfsync": config["appendfsync"],
        "machine": f"{platform.machine()}, Python {platform.python_version()}",
    }


async def request_of(url: str, name: str, limits: Sequence[Limit]) -> dict[str, Any]:
    """What a request under these limits costs, with others open."""
    bench = LedgerBench(url, limits)
    await bench.redis.flushall()
    await bench.warm_up()
    acquire, settle = Timed(), Timed()
    for _ in range(BATCHES):
        await bench.timed(bench.settle, OPEN, settle)
        await bench.timed(bench.acquire, OPEN, acquire)
    await bench.redis.aclose()
    found: dict[str, Any] = {}
    for script, timed in (("acquire", acquire), ("settle", settle)):
        found[f"{name}_{script}_mean_us"] = round(timed.usec / timed.calls, 1)
        found[f"{name}_{script}_p99_us"] = timed.p99()
        found[f"{name}_{script}_cpu_us"] = round(timed.cpu_usec / timed.calls, 1)
    return found | {f"{name}_cpu_us": round((acquire.cpu_usec + settle.cpu_usec) / acquire.calls, 1)}


def main() -> None:
    with tempfile.TemporaryDirectory() as home, EmbeddedStore(Path(home)) as url:
        found = asyncio.run(measure(url))
    for name, value in found.items():
        bar = BARS.get(name)
        verdict = "" if bar is None else f"bar {bar:g}: {'holds' if value < bar else 'MISSED'}"
        print(f"{name:24}{value!s:>16}  {verdict}".rstrip())
    results = Path(__file__).parent / "results" / "ledger.json"
    results.parent.mkdir(exist_ok=True)
    results.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
