"""Some records of one workspace on their way into the tables."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from functools import lru_cache

from sqlalchemy import func, select

from govmiddleware.core.journal import JournalEntry
from govmiddleware.core.limits import is_counter_name, split_counter_name
from govmiddleware.journal.bulk import BulkInsert, Work, plain
from govmiddleware.journal.connection import AsyncConnection
from govmiddleware.journal.rows import COLUMNS, Draft, draft
from govmiddleware.journal.tables import counters, holds, kept, records, tags
from govmiddleware.services.records import UNREADABLE

_AT_ONCE = 25
"""Records that are looked at before others on the event loop have their turn."""

_RECORDS = plain(records.c.id, *COLUMNS)
_COUNTERS = plain(counters.c.workspace, counters.c.name, counters.c.window)
# Of a record that was there already, under another id, tags and holds were, too: those given here are left out. It
# is asked for each row by itself: with a join, PostgreSQL may keep a plan that reads the whole table.
_IS_NEW = "(SELECT true FROM gov_record WHERE gov_record.id = given.record)"
_TAGS = BulkInsert(
    {"record": tags.c.record, "name": tags.c.name, "value": tags.c.value},
    "gov_tag (record, name, value)",
    f"SELECT * FROM given WHERE {_IS_NEW}",
)
_HOLDS = BulkInsert(
    {
        "record": holds.c.record,
        "workspace": counters.c.workspace,
        "counter": counters.c.name,
        "bucket": holds.c.bucket,
        "amount": holds.c.amount,
    },
    "gov_hold (record, counter, bucket, amount)",
    "SELECT record, (SELECT id FROM gov_counter WHERE workspace = given.workspace AND name = given.counter), "
    f"bucket, amount FROM given WHERE {_IS_NEW}",
)


class Batch:
    """What is to be inserted for some records, looked at before the transaction begins.

    Attributes:
        drafts: by identity; of those that are the same one, the last.
        last: the id of the last record, as two numbers.
    """

    def __init__(self, workspace: str) -> None:
        self.drafts: dict[str, Draft] = {}
        self.last = (0, 0)
        self._workspace = workspace
        self._counters: dict[str, tuple[str, str]] = {}  # by name: as the column has it, and its window

    @classmethod
    async def of(cls, workspace: str, entries: Sequence[JournalEntry]) -> Batch:
        batch = cls(workspace)
        for first in range(0, len(entries), _AT_ONCE):
            for entry in entries[first : first + _AT_ONCE]:
                batch._add(entry)
            await asyncio.sleep(0)
        return batch

    def _add(self, entry: JournalEntry) -> None:
        made = draft(self._workspace, entry)
        self.drafts[made.identity] = made
        self.last = max(self.last, made.position)
        for counter, _ in made.held:
            if counter not in self._counters:
                self._counters[counter] = kept(counter), _window(counter)

    def work(self, ids: Sequence[int]) -> Work:
        """What inserts the records, under these ids, and then all that belongs to them."""
        given = list(zip(ids, self.drafts.values(), strict=True))
        return (
            (_RECORDS, ((record, *made.values) for record, made in given)),
            (_TAGS, ((record, *tag) for record, made in given for tag in made.tags)),
            # In one order whoever inserts them: or two of them might wait for each other.
            (_COUNTERS, ((self._workspace, *counter) for counter in sorted(self._counters.values()))),
            (
                _HOLDS,
                (
                    (record, self._workspace, self._counters[counter][0], bucket, amount)
                    for record, made in given
                    for (counter, bucket), amount in made.held.items()
                ),
            ),
        )


async def next_ids(connection: AsyncConnection, count: int) -> Sequence[int]:
    """For new records."""
    if connection.dialect.name == "sqlite":  # nobody else writes meanwhile
        last: int = await connection.scalar(select(func.coalesce(func.max(records.c.id), 0))) or 0
        return range(last + 1, last + 1 + count)
    number = func.nextval(func.pg_get_serial_sequence(records.name, records.c.id.name))
    found = await connection.execute(select(number).select_from(func.generate_series(1, count)))
    return found.scalars().all()


async def new_unreadable(
    connection: AsyncConnection, ids: Sequence[int], drafts: Iterable[Draft]
) -> list[JournalEntry]:
    """Those that were inserted under these ids, and not left out, which nobody can read."""
    found = {record: each.entry for record, each in zip(ids, drafts, strict=True) if each.kind == UNREADABLE}
    if not found:
        return []
    new = await connection.execute(select(records.c.id).where(records.c.id.in_(found)))
    return [found[record] for record in new.scalars()]


@lru_cache(4096)
def _window(counter: str) -> str:
    """Empty for what is no counter of ours, which a record from elsewhere may name: it counts in no window."""
    return split_counter_name(counter)[2] if is_counter_name(counter) else ""
