"""The books of a workspace: what its whole journal, SQL's records and then the stream's, comes to for each counter."""

from __future__ import annotations

import msgspec

from govmiddleware.core.history import History, Sums, count
from govmiddleware.core.journal import Journal, JournalEntry

RECORDS_AT_ONCE = 500


class Books(msgspec.Struct):
    """What each counter has used, by bucket, up to a record of the stream.

    Attributes:
        history: SQL; None: the stream has all.
        read_to: that record.
    """

    workspace: str
    journal: Journal
    history: History | None
    used: Sums
    read_to: str

    async def read_on(self, until: str) -> None:
        """Take in what the stream has up to record `until`. Raises StoreUnavailable and HistoryUnavailable."""
        page: list[JournalEntry] = []
        async for entry in self.journal.entries(self.workspace, after=self.read_to, until=until):
            page.append(entry)
            if len(page) == RECORDS_AT_ONCE:
                await self._take_in(page)
                page = []
        await self._take_in(page)

    async def _take_in(self, page: list[JournalEntry]) -> None:
        if not page:
            return
        sent_again = await self.history.sent_again(self.workspace, page) if self.history else set()
        for entry in page:
            for hold in entry.holds if entry.record_id not in sent_again else ():
                count(self.used, hold)
        self.read_to = page[-1].record_id


async def open_books(journal: Journal, history: History | None, workspace: str, since_ms: int) -> Books:
    """As far as SQL has them: the stream, which keeps records for a while after SQL has them, is to be read after
    it. Of windows that count at `since_ms` and after it. Raises HistoryUnavailable."""
    used, drained_to = await history.sums(workspace, since_ms) if history else ({}, "")
    return Books(workspace, journal, history, used, drained_to)
