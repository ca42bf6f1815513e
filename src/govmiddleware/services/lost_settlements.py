"""Settlements that the store has lost together with their reservations: applied again, each once."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from govmiddleware.core.adjustments import Action, Adjustment, Adjustments
from govmiddleware.core.history import History
from govmiddleware.core.limits import Counter
from govmiddleware.errors import CannotRestore
from govmiddleware.services.rebuild import Rebuilding

logger = logging.getLogger("govmiddleware.lost_settlements")


class LostSettlements:
    """What SQL has of them is restored from there, whichever worker settled it. What it has not is added to the
    counters as of now, with its record: SQL takes one outcome of a reservation, so that it is there once, too."""

    def __init__(self, history: History, adjustments: Adjustments, rebuilding: Rebuilding) -> None:
        self._history = history
        self._adjustments = adjustments
        self._rebuilding = rebuilding

    async def drained(self, workspace: str, reservation_ids: Sequence[str]) -> dict[str, bytes]:
        """The records that SQL has of them. Raises HistoryUnavailable."""
        found = await self._history.outcomes(workspace, reservation_ids)
        return {reservation_id: entry.record for reservation_id, entry in found.items()}

    async def apply(
        self,
        workspace: str,
        reservation_id: str,
        counters: Sequence[Counter],
        amounts: Mapping[str, int],
        record: bytes,
    ) -> None:
        """Charge what was used, and journal it. Raises StoreUnavailable: StoreLost until the workspace is rebuilt."""
        charged = tuple(amounts.get(counter.name, 0) for counter in counters)
        await self._adjustments.adjust(
            workspace,
            Adjustment(f"lost:{reservation_id}", Action.ADD, tuple(counters), charged, record),
        )

    async def restore(self) -> None:
        """See to it that counters have what SQL had before the store lost it. Where the store has lost a workspace
        as a whole, that is for people to do. Raises StoreUnavailable and HistoryUnavailable."""
        for workspace in await self._history.workspaces():
            try:
                await self._rebuilding.workspace(workspace, unless_lost=True)
            except CannotRestore as error:  # another worker is at it
                logger.info("%s", error)
