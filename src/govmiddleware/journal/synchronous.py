"""The one question that code without an event loop asks of the history."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

from govmiddleware.journal.database import Database
from govmiddleware.journal.history import SqlHistory


class SyncEpochHistory:
    """Asks in a thread of its own, whose event loop is nobody else's, with a connection for this alone: it is asked
    once for each workspace and life of the store.

    Args:
        url: `journal_url`.
    """

    def __init__(self, url: str) -> None:
        self._url = url

    def begin_epoch(self, workspace: str, epoch: str) -> str:
        """As `History.begin_epoch`. Raises HistoryUnavailable."""
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(asyncio.run, self._begin_epoch(workspace, epoch)).result()

    async def _begin_epoch(self, workspace: str, epoch: str) -> str:
        database = Database(self._url)
        try:
            return await SqlHistory(database).begin_epoch(workspace, epoch)
        finally:
            await database.close()
