"""The columns of a record say what the record says."""

from __future__ import annotations

from typing import Any

import pytest

from govmiddleware.core.journal import JournalEntry
from govmiddleware.core.usage import Usage
from govmiddleware.journal.rows import COLUMNS, draft
from govmiddleware.services import records
from govmiddleware.services.records import Record

USAGE = Usage(300, cached_tokens=7, cache_write_tokens=5, output_tokens=40, reasoning_tokens=3)


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("outcome", {"usage": USAGE, "cost_usd": "0.000000300", "reserved_usd": "0.000000200"}),
        ("outcome", {"usage": USAGE, "cost_usd": "12.5", "reserved_usd": "13.000000000"}),
        ("outcome", {"cost_usd": "1.000000000"}),
        ("correction", {"usage": USAGE - Usage(900), "cost_usd": "-0.250000000", "reserved_usd": "9.0"}),
        ("correction", {"cost_usd": "0.250000000", "reserved_usd": "9.000000000"}),
        ("refusal", {"refused": 1, "cost_usd": "1.000000000"}),
        ("summary", {"refused": 17}),
        ("adjustment", {"usage": USAGE}),
    ],
)
def test_the_amounts_of_a_row_are_those_that_reports_add_up_of_the_record(
    kind: str, said: dict[str, Any]
) -> None:
    """Reports add up rows of SQL and records that are not in it yet."""
    record = Record(kind=kind, workspace="acme", **said)
    drafted = draft("acme", JournalEntry("1-0", 1, (), records.encode(record)))
    row = {column.name: value for column, value in zip(COLUMNS, drafted.values, strict=True)}
    sums = records.sums_of(record)
    columns = ("requests", "refused", "input_tokens", "cached_tokens", "cache_write_tokens", "output_tokens")
    for name in (*columns, "reasoning_tokens", "cost", "debt"):
        assert row[name] == getattr(sums, name), name
