"""The audit log: numbered without a gap, and chained, whoever appends."""

from __future__ import annotations

import asyncio

from govmiddleware.core.audit_log import FIRST_MAC, Action, Head, chained
from govmiddleware.journal.audit_log import SqlAuditLog
from govmiddleware.journal.database import Database

KEY = b"a key that the database never has"


class Heads:
    """The store's part of the log, in memory."""

    def __init__(self) -> None:
        self.kept: Head | None = None

    async def read(self) -> Head | None:
        return self.kept

    async def replace(self, kept: Head | None, head: Head) -> bool:
        if kept != self.kept:
            return False
        self.kept = head
        return True


async def test_entries_that_are_appended_at_once_make_one_chain(database: Database) -> None:
    log = SqlAuditLog(database, lambda: KEY, Heads())
    subjects = [f"usage-budget:month:user-{number}" for number in range(20)]
    await asyncio.gather(
        *(
            log.append(Action("acme", "api_token:ops", "override.approved", subject, {"amount": 3}))
            for subject in subjects
        )
    )
    entries = [entry async for entry in log.entries()]
    assert [entry.sequence for entry in entries] == list(range(1, 21))
    assert sorted(entry.action.subject for entry in entries) == sorted(subjects)
    before = FIRST_MAC
    for entry in entries:
        assert entry == chained(KEY, before, entry.sequence, entry.at_ms, entry.action)
        assert entry.follows(before, KEY)
        before = entry.mac
    assert [entry async for entry in log.entries(after=18)] == entries[18:]
