"""Vital signs of one process, for its metrics: what no request tells of, least of all when none gets through."""

from __future__ import annotations

import asyncio

from govmiddleware.core.ports import Ledger
from govmiddleware.metrics import Metrics
from govmiddleware.services.upkeep import Upkeep

VITAL_SECONDS = 1.0
_LAG_SECONDS = 0.25


class VitalSigns:
    """Whether the store takes writes, how old the oldest reservation is, and how late the event loop runs."""

    def __init__(self, ledger: Ledger, upkeep: Upkeep, metrics: Metrics) -> None:
        self._ledger = ledger
        self._upkeep = upkeep
        self._metrics = metrics

    async def look(self) -> None:
        """To be done every VITAL_SECONDS."""
        self._metrics.oldest_reservation.set(self._upkeep.oldest_seconds())
        self._metrics.store_down.set(not await self._ledger.takes_writes())
        self._metrics.share()

    async def sample_lag(self) -> None:
        """Sleep, and observe by how much too long that was. To be done without a pause, so that nothing which holds
        up the loop goes unseen."""
        loop = asyncio.get_running_loop()
        due = loop.time() + _LAG_SECONDS
        await asyncio.sleep(_LAG_SECONDS)
        self._metrics.event_loop_lag.observe(max(0.0, loop.time() - due))
