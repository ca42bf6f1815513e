"""Sums for reports and what limits missed, as each database computes them."""

from __future__ import annotations

from typing import Any

from govmiddleware.core.backfill import Kind
from govmiddleware.core.journal import JournalEntry, SettledHold
from govmiddleware.core.limits import Meter
from govmiddleware.core.reports import Span, Sums
from govmiddleware.core.scopes import pair_value
from govmiddleware.core.usage import Usage
from govmiddleware.core.windows import CalendarUnit, CalendarWindow, SlidingWindow
from govmiddleware.journal.database import Database
from govmiddleware.journal.history import SqlHistory
from govmiddleware.journal.missed_use import SqlMissedUse
from govmiddleware.journal.reports import SqlReports
from govmiddleware.services import records
from govmiddleware.services.records import Record

HELD = "user+model:cost_usd:month:a%7Cb|m"


def entry(number: int, time_ms: int, *holds: str, workspace: str = "acme", **fields: Any) -> JournalEntry:
    record = Record(
        **{
            "kind": "outcome",
            "reservation_id": f"r{number}",
            "workspace": workspace,
            "user": "a|b",
            "model_requested": "m",
            "usage": Usage(3, output_tokens=4),
            "cost_usd": "0.000000005",
            "price_version": "v1",
        }
        | fields
    )
    held = tuple(SettledHold(name, 0, 5) for name in holds)
    return JournalEntry(f"{1000 + number}-0", 1000 + number, held, records.encode(record), time_ms)


async def fill(history: SqlHistory) -> None:
    await history.append(
        "acme",
        [
            entry(1, 100, HELD, tags={"team": "search"}),
            entry(2, 199),
            entry(3, 200, user="bob", tags={"team": "ads", "env": "prod"}),
            entry(4, 350, user="bob", kind="correction", cost_usd="-0.000000002"),
            entry(5, 360, kind="refusal", reservation_id=None, refused=1, cost_usd=None, usage=None),
        ],
    )


async def test_sums_are_by_slice_and_by_all_that_is_asked_for(
    database: Database, history: SqlHistory
) -> None:
    await fill(history)
    reports = SqlReports(database)
    by_user, drained_to = await reports.sums("acme", ["user"], Span(since=100, until=360, first=0, width=100))
    assert drained_to == "1005-0"
    assert {group: (sums.requests, sums.cost, sums.debt) for group, sums in by_user.items()} == {
        (1, ("a|b",)): (2, 10, 10),
        (2, ("bob",)): (1, 5, 5),
        (3, ("bob",)): (0, -2, 0),
    }
    totals, _ = await reports.sums("acme", [], Span())
    assert totals == {(0, ()): Sums(3, 1, 12, 0, 0, 16, 0, 13, 15)}
    by_tag, _ = await reports.sums("acme", ["workspace", "tag:team", "price_version"], Span(until=300))
    assert {values: sums.requests for (_, values), sums in by_tag.items()} == {
        ("acme", "search", "v1"): 1,
        ("acme", None, "v1"): 1,
        ("acme", "ads", "v1"): 1,
    }
    assert await reports.sums("nobody", [], Span(first=0, width=9)) == ({}, "")
    assert await reports.counters_in_use("acme", {"user+model:cost_usd:month:": 0}) == [HELD]
    assert await reports.counters_in_use("acme", {"user+model:cost_usd:month:": 1, "User+": 0}) == []


async def test_what_was_missed_is_what_is_not_held(database: Database, history: SqlHistory) -> None:
    await fill(history)
    missed_use = SqlMissedUse(database)
    month = Kind("user+model", Meter.COST_USD, CalendarWindow(CalendarUnit.MONTH), False, None, None)
    missed = await missed_use.missed("acme", month, now_ms=0)
    assert (missed.unheld, missed.drained_to) == (
        {("a%7Cb|m", 0): 5, ("bob|m", 0): 3},
        "1005-0",
    )
    second = Kind("tag:team", Meter.REQUESTS, SlidingWindow(6), False, None, None)
    assert (await missed_use.missed("acme", second, now_ms=6100)).unheld == {
        ("search", 1): 1,
        ("anonymous", 1): 1,
        ("ads", 2): 1,
        ("anonymous", 3): 0,
    }
    assert (await missed_use.missed("acme", second, now_ms=6250)).unheld.keys() == {
        ("ads", 2),
        ("anonymous", 3),
    }


async def test_the_whole_deployments_are_held_by_the_records_that_stand_for_others(
    database: Database, history: SqlHistory
) -> None:
    await fill(history)
    kind = Kind("deployment", Meter.COST_USD, CalendarWindow(CalendarUnit.MONTH), False, None, None)
    stand_in = {"workspace": "*", "user": None, "model_requested": None, "usage": None, "cost_usd": None}
    await history.append("*", [entry(2, 199, "deployment:cost_usd:month:deployment", **stand_in)])
    missed = await SqlMissedUse(database).missed("*", kind, now_ms=0, but=["r1"], before_ms=350)
    assert missed.unheld == {("deployment", 0): 5}, "of bob: one is held, one left out, one came later"


async def test_of_a_pair_names_are_found_as_they_were_given(database: Database, history: SqlHistory) -> None:
    names = {"user": "CORP\\ann|100%\0", "model_requested": "m"}
    await history.append("acme", [entry(1, 0, **names)])
    value = pair_value(*names.values())
    for asked in (None, value):
        kind = Kind("user+model", Meter.TOTAL_TOKENS, CalendarWindow(CalendarUnit.MONTH), False, None, asked)
        assert (await SqlMissedUse(database).missed("acme", kind, now_ms=0)).unheld == {(value, 0): 7}
