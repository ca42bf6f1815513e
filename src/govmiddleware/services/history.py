"""What the store and SQL know together."""

from __future__ import annotations

from govmiddleware.core.history import History
from govmiddleware.core.journal import Journal


async def all_workspaces(history: History, journal: Journal) -> list[str]:
    """Those that either knows. Raises HistoryUnavailable and StoreUnavailable."""
    return sorted({*await history.workspaces(), *await journal.workspaces()})
