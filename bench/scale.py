"""How admission grows with what there is: `python bench/scale.py [--quick]`.

Time of one acquire and one settle, on the server and in the client, against the number of limits, of live users, of
workspaces and of open reservations; what a million users with a monthly budget each weigh; and requests a second of
`govmiddleware serve` against the number of limits. Through the real scripts, on the stores that `gateways.py` takes too.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import tempfile
import time
from collections.abc import Awaitable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import usage_reports
from govmiddleware.core.limits import Amount, Counter, Hold, Limit, Meter, holds_for
from govmiddleware.core.ports import Granted, Output
from govmiddleware.core.windows import Now, SlidingWindow, Window
from govmiddleware.journal.database import Database
from govmiddleware.journal.history import SqlHistory
from govmiddleware.ledger import connection
from govmiddleware.ledger.ledger import RedisLedger
from ledger import AMOUNTS, DAY, MONTH, limit
from stand import load, report, targets, workloads
from stand.processes import end_on_sigterm
from stand.stores import Store, store

WORKSPACE, RECORD = "acme", b'{"kind": "outcome"}'
LEASE_MS = 3_600_000
AT_ONCE = 8
"""Calls of the filling under way at any time."""
COUNTERS_A_CALL = 100
FEW, TURNS = 100, 5
"""Users that a million are measured beside, and how often in turn."""
PAIRS, BATCH = 1_000, 50
"""Of acquire and settle, for one point of a curve; and how many of one kind follow each other."""

SIX = [
    limit("requests-a-minute", "api_token", Meter.REQUESTS, SlidingWindow(60)),
    limit("tokens-a-minute", "api_token", Meter.TOTAL_TOKENS, SlidingWindow(60)),
    limit("at-once", "api_token", Meter.CONCURRENCY, Now()),
    limit("user-month", "user", Meter.COST_USD, MONTH),
    limit("session-day", "session", Meter.COST_USD, DAY),
    limit("workspace-month", "workspace", Meter.COST_USD, MONTH),
]
USER_MONTH = SIX[3]
KINDS: list[tuple[Meter, Window]] = [
    (Meter.COST_USD, MONTH),
    (Meter.REQUESTS, SlidingWindow(60)),
    (Meter.TOTAL_TOKENS, SlidingWindow(60)),
    (Meter.OUTPUT_TOKENS, DAY),
]


def many_limits(count: int) -> list[Limit]:
    """Of four kinds in equal parts, four over one tag."""
    kinds = [KINDS[number % len(KINDS)] for number in range(count)]
    return [limit(f"limit-{n}", f"tag:t{n // 4}", meter, window) for n, (meter, window) in enumerate(kinds)]


def user(number: int) -> str:
    return f"user-{number:08}@acme.example"


class Admissions:
    """Calls of random users to one store."""

    def __init__(self, its_store: Store) -> None:
        self.store = its_store
        connection.PATIENCE_SECONDS = 10.0  # a store that is filled as fast as it can is not a lost one
        self.redis = connection.connect(its_store.url)
        self.ledger = RedisLedger(self.redis)
        self.chance = random.Random(1)
        self.calls = 0

    async def acquire(
        self, holds: Sequence[Hold], *, workspace: str = WORKSPACE, output: Output | None = None
    ) -> str:
        """A reservation's id."""
        self.calls += 1
        name = f"req_{self.calls:032x}"
        outcome = await self.ledger.acquire(
            workspace,
            name,
            holds,
            lease_ms=LEASE_MS,
            expired_record=RECORD,
            output=output or Output(1024, 64),
        )
        assert isinstance(outcome, Granted), outcome
        return name

    async def settle(
        self, name: str, holds: Sequence[Hold], *, workspace: str = WORKSPACE, record: bytes | None = RECORD
    ) -> None:
        used = {hold.counter.name: hold.amount.at(300) for hold in holds}
        await self.ledger.settle(workspace, name, [hold.counter for hold in holds], used, record)

    async def measure(
        self, limits: Sequence[Limit] = SIX, *, users: int = 100, workspaces: int = 1
    ) -> dict[str, float]:
        """Microseconds of one acquire and one settle: what the server says that each took, the median of batches;
        its CPU, and this process's, for both."""
        acquiring, settling, server, client = [], [], 0.0, 0.0
        for number in range(1 + PAIRS // BATCH):
            chosen = [self.chance.randrange(workspaces) for _ in range(BATCH)]
            calls = [(f"{WORKSPACE}-{workspace}", self._holds(limits, users)) for workspace in chosen]
            began, before = time.process_time(), self.store.spent()
            names = [await self.acquire(holds, workspace=workspace) for workspace, holds in calls]
            between = self.store.spent()
            for name, (workspace, holds) in zip(names, calls, strict=True):
                await self.settle(name, holds, workspace=workspace)
            after, taken = self.store.spent(), time.process_time() - began
            if number:  # the first fills caches
                acquiring.append(between.since(before).command_us / BATCH)
                settling.append(after.since(between).command_us / BATCH)
                server += after.since(before).cpu_us / PAIRS
                client += 1e6 * taken / PAIRS
        return {
            "acquire_us": statistics.median(acquiring),
            "settle_us": statistics.median(settling),
            "server_cpu_us": server,
            "client_cpu_us": client,
        }

    def _holds(self, limits: Sequence[Limit], users: int) -> Sequence[Hold]:
        subject = {"workspace": WORKSPACE, "api_token": "tok_01jx2m9k3f8q5r7w", "session": "5f0c7d1e94a24b7e"}
        subject |= {each.scope: "search" for each in limits if each.scope.startswith("tag:")}
        return holds_for(limits, subject | {"user": user(self.chance.randrange(users))}, AMOUNTS)

    async def fill_users(self, first: int, last: int) -> None:
        """A monthly counter for each of these users, a hundred in one call."""
        await at_once(
            self._fill(range(start, min(last, start + COUNTERS_A_CALL)))
            for start in range(first, last, COUNTERS_A_CALL)
        )

    async def _fill(self, numbers: range) -> None:
        holds = [
            Hold(Counter("user", Meter.COST_USD, MONTH, user(number)), Amount(3_085_000), (USER_MONTH,))
            for number in numbers
        ]
        workspace = f"{WORKSPACE}-0"
        name = await self.acquire(holds, workspace=workspace)
        await self.settle(name, holds, workspace=workspace, record=None)  # what is weighed are counters

    async def fill_workspaces(self, first: int, last: int) -> None:
        """Each has had a call."""

        async def one(number: int) -> None:
            holds, workspace = self._holds(SIX, 1), f"{WORKSPACE}-{number}"
            await self.settle(await self.acquire(holds, workspace=workspace), holds, workspace=workspace)

        await at_once(one(number) for number in range(first, last))

    async def open(self, count: int) -> None:
        """So many more reservations that stay open."""
        workspace = f"{WORKSPACE}-0"
        await at_once(self.acquire(self._holds([USER_MONTH], 100), workspace=workspace) for _ in range(count))


async def at_once(calls: Iterable[Awaitable[Any]]) -> None:
    """All of them, a few at a time."""
    waiting = iter(calls)

    async def work() -> None:
        for call in waiting:
            await call

    await asyncio.gather(*(work() for _ in range(AT_ONCE)))


async def curves(
    its_store: Store,
    *,
    limits: Sequence[int] = (),
    workspaces: Sequence[int] = (),
    users: Sequence[int] = (),
    reservations: Sequence[int] = (),
) -> Any:
    """Points of the four curves, by what grows."""
    calls = Admissions(its_store)
    found: dict[str, dict[int, dict[str, float]]] = {
        "limits": {},
        "workspaces": {},
        "users": {},
        "reservations": {},
    }
    for count in limits:
        found["limits"][count] = await calls.measure(many_limits(count))
    there = 1
    for count in workspaces:
        await calls.fill_workspaces(there, count)
        there = count
        found["workspaces"][count] = await calls.measure(workspaces=count)
    there, empty = 0, its_store.used_memory()
    for count in users:
        await calls.fill_users(there, count)
        there, weight = count, its_store.used_memory() - empty
        found["users"][count] = await calls.measure(users=count) | {"memory_mb": weight / 1e6}
    there = 0
    for count in reservations:
        await calls.open(count - there)
        there = count
        found["reservations"][count] = await calls.measure()
    await calls.redis.aclose()
    return found


def medians(points: Sequence[dict[str, float]]) -> dict[str, float]:
    return {name: statistics.median(point[name] for point in points) for name in points[0]}


async def beside_few(few_store: Store, many_store: Store, count: int) -> dict[str, Any]:
    """Both filled, then measured in turns: what else the machine does meanwhile meets both."""
    few, many = Admissions(few_store), Admissions(many_store)
    empty = many_store.used_memory()
    await few.fill_users(0, FEW)
    await many.fill_users(0, count)
    weight = many_store.used_memory() - empty
    many_store.wait_until_at_rest()
    turns = [(await few.measure(users=FEW), await many.measure(users=count)) for _ in range(TURNS)]
    for calls in few, many:
        await calls.redis.aclose()
    return {
        "memory_mb": weight / 1e6,
        "few": medians([turn[0] for turn in turns]),
        "many": medians([turn[1] for turn in turns]),
        "admission_ratio": statistics.median(
            turn[1]["server_cpu_us"] / turn[0]["server_cpu_us"] for turn in turns
        ),
    }


def million_users(count: int = 1_000_000) -> dict[str, Any]:
    """Memory that a monthly counter for each takes, and how long admission takes among them, and among 100."""
    with (
        tempfile.TemporaryDirectory() as name,
        store("few", Path(name)) as few,
        store("million", Path(name)) as many,
    ):
        return {"users": count, "store": many.kind, **asyncio.run(beside_few(few, many, count))}


def sidecars(folder: Path, counts: Sequence[int]) -> dict[int, dict[str, float]]:
    """`govmiddleware serve` with so many limits: requests a second, and what one takes."""
    found = {}
    body = folder / "small.json"
    body.write_bytes(workloads.chat(1_000))
    with targets.mock(folder) as upstream:
        for count in counts:
            limits = targets.limits_on_tags(count)
            with targets.sidecar(f"limits-{count}", upstream, folder, limits=limits) as plain:
                target = replace(plain, headers=targets.MANY_TAGS)
                targets.wait_until_ready(target, workloads.CHAT_PATH, body.read_bytes())
                load.with_wrk(target, body, connections=16, seconds=1)
                samples = [load.with_wrk(target, body, connections=16, seconds=2) for _ in range(3)]
                found[count] = report.summary(samples)
    return found


async def journal(records: int) -> dict[str, float]:
    """How fast one drainer can write: records of a call a second into SQLite, and their share of a core."""
    with tempfile.TemporaryDirectory() as name:
        database = Database(f"sqlite:///{Path(name) / 'journal.sqlite3'}")
        history = SqlHistory(database)
        began, worked = time.perf_counter(), time.process_time()
        for batch in usage_reports.entries(records):
            await history.append(WORKSPACE, batch)
        taken, cpu = time.perf_counter() - began, time.process_time() - worked
        await database.close()
    return {"records_per_second": records / taken, "cpu_us": 1e6 * cpu / records}


FLAT = 1.5
"""What the server's CPU at a curve's last point may be, times that at its first."""
COLUMNS = ("acquire_us", "settle_us", "server_cpu_us", "client_cpu_us", "memory_mb")


def print_curves(found: dict[str, Any]) -> None:
    for grows in ("limits", "users", "workspaces", "reservations"):
        print(f"\n{grows:>14}" + "".join(f"{name:>15}" for name in COLUMNS))
        points = found[grows]
        for count, point in points.items():
            cells = (f"{point[name]:>15.1f}" if name in point else "" for name in COLUMNS)
            print(f"{count:>14,}" + "".join(cells))
        first, *_, last = (point["server_cpu_us"] for point in points.values())
        if grows == "limits":
            print(f"{'':>14} {(last - first) / (max(points) - min(points)):.1f} us for each limit more")
        else:
            verdict = "flat" if last <= FLAT * first else "GROWS"
            print(f"{'':>14} the last {last / first:.2f} times the first: {verdict}")
    rate, cpu_us = found["journal"].values()
    print(f"\njournal into SQLite: {rate:.0f} records/s, {cpu_us:.0f} us each")
    report.print_cases({f"serve, {count} limits": case for count, case in found["serve"].items()})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller numbers, in a minute")
    quick = parser.parse_args().quick
    end_on_sigterm()
    began, machine = time.monotonic(), report.machine()
    with tempfile.TemporaryDirectory() as name:
        with store("curves", Path(name)) as its_store:
            found = asyncio.run(
                curves(
                    its_store,
                    limits=(1, 2, 4, 6, 8, 12, 16, 24),
                    users=(1, 100, 10_000) if quick else (1, 100, 10_000, 100_000, 1_000_000),
                    workspaces=(1, 100) if quick else (1, 100, 10_000),
                    reservations=(10, 1_000) if quick else (10, 1_000, 10_000, 100_000),
                )
            )
        found["journal"] = asyncio.run(journal(5_000 if quick else 50_000))
        found["serve"] = sidecars(Path(name), (1, 24) if quick else (1, 6, 12, 24))
        found["store"] = its_store.kind
    print_curves(found)
    report.write(report.RESULTS / "scale.json", {"machine": machine, **found})
    print(f"{time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
