"""All records of a workspace, for tests that count them."""

from __future__ import annotations

from collections.abc import AsyncIterator

from govmiddleware.core.history import History
from govmiddleware.core.journal import Journal, JournalEntry


async def whole_journal(history: History, journal: Journal, workspace: str) -> AsyncIterator[JournalEntry]:
    """In order: SQL's to their end, then those of the stream after them, which keeps records for a minute after SQL
    has them, so that none falls between."""
    last = ""
    async for entry in history.entries(workspace):
        yield entry
        last = entry.record_id
    async for entry in journal.entries(workspace, after=last):
        yield entry
