"""All records of a workspace: SQL has the old ones, the store's stream the new ones."""

from __future__ import annotations

from collections.abc import AsyncIterator

from govmiddleware.core.history import History
from govmiddleware.core.journal import Journal, JournalEntry


async def whole_journal(history: History, journal: Journal, workspace: str) -> AsyncIterator[JournalEntry]:
    """In order. Raises HistoryUnavailable and StoreUnavailable.

    SQL is read to its end first: the stream keeps records for a minute after SQL has them, so that none falls between.
    """
    last = ""
    async for entry in history.entries(workspace):
        yield entry
        last = entry.record_id
    async for entry in journal.entries(workspace, after=last):
        yield entry


async def all_workspaces(history: History, journal: Journal) -> list[str]:
    """Those that either knows. Raises HistoryUnavailable and StoreUnavailable."""
    return sorted({*await history.workspaces(), *await journal.workspaces()})
