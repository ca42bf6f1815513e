"""The books of a workspace: what its whole journal, SQL's records and then the stream's, comes to for each counter."""

from __future__ import annotations

from dataclasses import dataclass

from govmiddleware.core.history import History, Sums, count
from govmiddleware.core.ports import Journal


@dataclass(slots=True)
class Books:
    """What each counter has used, by bucket, up to a record of the stream.

    Attributes:
        read_to: that record.
    """

    workspace: str
    used: Sums
    read_to: str

    async def read_on(self, journal: Journal, until: str) -> None:
        """Take in what the stream has up to record `until`."""
        async for entry in journal.entries(self.workspace, after=self.read_to, until=until):
            for hold in entry.holds:
                count(self.used, hold)
            self.read_to = entry.record_id


async def open_books(history: History | None, workspace: str, since_ms: int) -> Books:
    """As far as SQL has them: the stream, which keeps records for a while after SQL has them, is to be read after
    it. Of windows that count at `since_ms` and after it. Raises HistoryUnavailable."""
    if history is None:
        return Books(workspace, {}, "")
    return Books(workspace, *await history.sums(workspace, since_ms))
