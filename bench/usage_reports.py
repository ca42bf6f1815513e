"""How long usage reports take over a history of many records: `uv run python bench/usage_reports.py [RECORDS]`.

The records are of 30 days, 1,000 users, 100,000 sessions, 3 models and one workspace, each with two holds and a tag.
"""

from __future__ import annotations

import asyncio
import random
import sys
import tempfile
import time
from collections.abc import Awaitable, Iterator
from pathlib import Path
from typing import Any

from govmiddleware.core.backfill import Kind
from govmiddleware.core.journal import JournalEntry, SettledHold
from govmiddleware.core.limits import Meter
from govmiddleware.core.reports import Span
from govmiddleware.core.slices import Unit, cut
from govmiddleware.core.usage import Usage
from govmiddleware.core.windows import CalendarUnit, CalendarWindow
from govmiddleware.journal.database import Database
from govmiddleware.journal.history import SqlHistory
from govmiddleware.journal.missed_use import SqlMissedUse
from govmiddleware.journal.reports import SqlReports
from govmiddleware.services import records
from govmiddleware.services.records import Record

START = 1_767_225_600_000  # 2026-01-01
MONTH = 30 * 86_400_000
BATCH = 5_000


def entries(count: int) -> Iterator[list[JournalEntry]]:
    chance = random.Random(1)
    batch = []
    for number in range(count):
        at_ms = START + number * MONTH // count
        user = f"user-{chance.randrange(1000)}"
        record = Record(
            kind="outcome",
            reservation_id=f"req_{number:032x}",
            workspace="acme",
            api_token=f"token-{chance.randrange(50)}",
            user=user,
            session=f"session-{number // 10}",
            agent=f"agent-{chance.randrange(7)}",
            tags={"team": f"team-{chance.randrange(20)}"},
            provider="openai",
            model_requested=chance.choice(["gpt-4o", "gpt-4o-mini", "o3"]),
            usage=Usage(1200, cached_tokens=100, output_tokens=300, reasoning_tokens=20),
            cost_usd="0.000123456",
            reserved_usd="0.001000000",
            price_version="2026-01-01",
            outcome="answered",
            settlement="exact",
        )
        holds = (
            SettledHold(f"user:cost_usd:month:{user}", START, 123_456),
            SettledHold(f"user:requests:60s:{user}", at_ms // 1000, 1),
        )
        batch.append(JournalEntry(f"{at_ms}-{number}", at_ms, holds, records.encode(record)))
        if len(batch) == BATCH:
            yield batch
            batch = []


async def timed(name: str, work: Awaitable[Any]) -> None:
    began, worked = time.perf_counter(), time.process_time()
    await work
    print(f"{name:42} {time.perf_counter() - began:6.2f} s {time.process_time() - worked:6.2f} s of a core")


async def main(count: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        database = Database(f"sqlite:///{Path(folder) / 'journal.sqlite3'}")
        history, reports, missed_use = SqlHistory(database), SqlReports(database), SqlMissedUse(database)
        began = time.perf_counter()
        for batch in entries(count):
            await history.append("acme", batch)
        rate = count / (time.perf_counter() - began)
        print(f"{count} records: {rate:.0f} a second in")
        month = Span(START, START + MONTH)
        days = cut(Unit.DAY, "Europe/Berlin", 0, START, START + MONTH).span()
        for dimension in ("user", "session", "model", "tag:team"):
            await timed(f"report by {dimension}", reports.sums("acme", [dimension], month))
        await timed("report, totals alone", reports.sums("acme", [], month))
        await timed(
            "report by user of one day", reports.sums("acme", ["user"], Span(START, START + MONTH // 30))
        )
        await timed("timeline by day in Berlin", reports.sums("acme", [], days))
        await timed("timeline by day and user", reports.sums("acme", ["user"], days))
        await timed(
            "export", reports.sums("acme", ["workspace", "tag:team", "model", "price_version"], month)
        )
        await timed("counters in use", reports.counters_in_use("acme", {"user:cost_usd:month:": START}))
        window = CalendarWindow(CalendarUnit.MONTH)
        for scope in ("user", "session"):
            kind = Kind(scope, Meter.COST_USD, window, False, None, None)
            held = "held by all" if scope == "user" else "held by none"
            await timed(f"backfill by {scope}, {held}", missed_use.missed("acme", kind, now_ms=START + 1))
        await database.close()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000))
