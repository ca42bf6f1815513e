"""What the drainer does, at once."""

from __future__ import annotations

from govmiddleware.app import Governance


async def drain(governance: Governance) -> None:
    """All records of the store into SQL."""
    history, journal = governance.history, governance.journal
    for workspace in await journal.workspaces():
        after = await history.drained_to(workspace)
        await history.append(workspace, [entry async for entry in journal.entries(workspace, after=after)])
