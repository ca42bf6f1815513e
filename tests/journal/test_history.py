"""The journal's records in SQL: each once, whole, in order, and summed as they say."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from govmiddleware.core.journal import JournalEntry, SettledHold
from govmiddleware.core.usage import Usage
from govmiddleware.errors import HistoryUnavailable
from govmiddleware.journal import history as history_module
from govmiddleware.journal.database import Database
from govmiddleware.journal.history import SqlHistory
from govmiddleware.services import records
from govmiddleware.services.records import Record

MONTH = "user:cost_usd:month:ann"
MINUTE = "workspace:requests:60s:acme"
CLOCK = "user:wall_clock:lifetime:ann"


def entry(record_id: str, *holds: tuple[str, int, int], kind: str = "outcome", **fields: Any) -> JournalEntry:
    fields = {
        "workspace": "acme",
        "reservation_id": f"r{record_id}",
        "usage": Usage(3, output_tokens=4),
    } | fields
    record = records.encode(Record(kind=kind, **fields))
    return JournalEntry(
        record_id, int(record_id.partition("-")[0]), tuple(SettledHold(*hold) for hold in holds), record
    )


async def read(entries: AsyncIterator[JournalEntry]) -> list[JournalEntry]:
    return [each async for each in entries]


async def test_what_went_in_comes_out_whole_and_in_order(
    history: SqlHistory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history_module, "_PAGE", 2)
    entries = [
        entry(f"{ms}-{sequence}", (MONTH, 0, 5), (MINUTE, ms, 1), tags={"team": "search"}, user="ann\n'\"")
        for ms in (9, 10, 11)
        for sequence in (0, 2, 10)
    ]
    assert await history.append("acme", entries) == 9
    assert await read(history.entries("acme")) == entries
    assert await read(history.entries("acme", after="9-2", until="11-0")) == entries[2:7]
    assert await read(history.entries("other")) == []
    assert await history.drained_to("acme") == "11-10"
    assert await history.workspaces() == ["acme"]


async def test_records_that_are_sent_again_are_left_out(history: SqlHistory) -> None:
    first, second, third = (
        entry("1-0", (MONTH, 0, 5)),
        entry("2-0", (MONTH, 0, 7)),
        entry("3-0", (MONTH, 0, 1)),
    )
    await history.append("acme", [first, second])
    assert await history.append("acme", [second, first, third]) == 1
    assert await read(history.entries("acme")) == [first, second, third]
    assert await history.sums("acme", 0) == ({(MONTH, 0): 13}, "3-0")


async def test_an_outcome_that_the_store_lost_and_was_sent_again_is_the_same(history: SqlHistory) -> None:
    await history.append("acme", [entry("1-0", (MONTH, 0, 5), reservation_id="a")])
    again = entry("9-0", (MONTH, 0, 5), reservation_id="a")
    corrected = entry("9-1", (MONTH, 0, -2), reservation_id="a", kind="correction")
    assert await history.append("acme", [again, corrected]) == 1
    assert await history.sums("acme", 0) == ({(MONTH, 0): 3}, "9-1")


async def test_two_records_to_which_a_failover_gave_one_id_are_both_kept(history: SqlHistory) -> None:
    await history.append("acme", [entry("1-0", kind="refusal", reservation_id=None, user="ann")])
    assert await history.append("acme", [entry("1-0", kind="refusal", reservation_id=None, user="bob")]) == 1


async def test_several_who_drain_at_once_add_each_record_once(history: SqlHistory) -> None:
    entries = [entry(f"{number}-0", (MONTH, 0, 1)) for number in range(1, 200)]
    new = await asyncio.gather(*(history.append("acme", entries) for _ in range(4)))
    assert sum(new) == 199
    assert await history.sums("acme", 0) == ({(MONTH, 0): 199}, "199-0")


async def test_sums_are_of_what_still_counts(history: SqlHistory) -> None:
    february, second = 31 * 86_400_000, 31 * 86_400
    await history.append(
        "acme",
        [entry("1-0", (MONTH, 0, 5), (MINUTE, second - 61, 1)), entry("2-0", (MINUTE, second - 60, 1))],
    )
    assert await history.sums("acme", february) == ({(MINUTE, second - 60): 1}, "2-0")
    assert await history.sums("acme", 2 * february) == ({}, "2-0")
    assert sorted(await history.counters("acme")) == [MONTH, MINUTE]


async def test_of_wall_clocks_the_last_first_use_or_reset_holds(history: SqlHistory) -> None:
    await history.append("acme", [entry("1-0", (CLOCK, 0, 70)), entry("2-0", (CLOCK, 0, 70))])
    assert await history.sums("acme", 0) == ({(CLOCK, 0): 70}, "2-0")
    await history.append("acme", [entry("3-0", (CLOCK, 0, -80), kind="adjustment")])
    assert await history.sums("acme", 0) == ({(CLOCK, 0): -80}, "3-0")
    await history.append("acme", [entry("4-0", (CLOCK, 0, 0)), entry("5-0", (CLOCK, 0, 90))])
    assert await history.sums("acme", 0) == ({(CLOCK, 0): 90}, "5-0")


async def test_the_outcomes_of_reservations_are_found(history: SqlHistory) -> None:
    one, two = (entry(f"{number}-0", (MONTH, 0, number)) for number in (1, 2))
    correction = entry("3-0", (MONTH, 0, 9), reservation_id="r1-0", kind="correction")
    await history.append("acme", [one, two, correction])
    assert await history.outcomes("acme", ["r1-0", "r3-0"]) == {"r1-0": one}
    assert await history.outcomes("other", ["r1-0"]) == {}


async def test_of_several_epochs_the_first_is_in_force(history: SqlHistory) -> None:
    assert await history.epoch("acme") is None
    await history.append("acme", [entry("1-0")])
    assert await history.epoch("acme") is None
    begun = await asyncio.gather(*(history.begin_epoch("acme", name) for name in ("one", "two", "three")))
    assert len(set(begun)) == 1
    assert await history.epoch("acme") == begun[0]


async def test_a_database_that_is_none_is_said_to_be_unavailable(tmp_path: Any) -> None:
    (tmp_path / "journal").write_text("this is no database, and it is long enough to be taken for one" * 20)
    with pytest.raises(HistoryUnavailable, match="not a database"):
        await SqlHistory(Database(f"sqlite:///{tmp_path / 'journal'}")).workspaces()
