"""The audit log: numbered without a gap, and chained, whoever appends."""

from __future__ import annotations

import asyncio

from govmiddleware.core.audit_log import FIRST_MAC, Action, chained
from govmiddleware.journal.audit_log import SqlAuditLog
from govmiddleware.journal.database import Database

KEY = b"a key that the database never has"


async def test_entries_that_are_appended_at_once_make_one_chain(database: Database) -> None:
    log = SqlAuditLog(database, KEY)
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
        before = entry.mac
    assert [entry async for entry in log.entries(after=18)] == entries[18:]
