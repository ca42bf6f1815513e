"""Refusals in the journal, at a bounded rate: a flood of them must not fill the store."""

from __future__ import annotations

import time
from collections import Counter

from govmiddleware.core.call import Call
from govmiddleware.core.journal import Journal
from govmiddleware.core.refusals import Refusal
from govmiddleware.errors import StoreUnavailable
from govmiddleware.services import records
from govmiddleware.services.upkeep import Upkeep

_PER_SECOND = 10
SUMMARY_SECONDS = 60.0

_FOR_WANT_OF_A_JOURNAL = frozenset({"store_unavailable", "journal_full"})


class RefusalLog:
    """Journals up to ten refusals a second and workspace in this process; the rest are counted into a
    summary record every minute. Nothing here delays a request."""

    def __init__(self, journal: Journal, upkeep: Upkeep) -> None:
        self._journal = journal
        self._upkeep = upkeep
        self._second = 0
        self._written: Counter[str] = Counter()
        self._suppressed: Counter[str] = Counter()

    def record(self, call: Call, refusal: Refusal) -> None:
        """Take note of one refused request. Needs its principal."""
        if refusal.code in _FOR_WANT_OF_A_JOURNAL:
            return  # the metrics and the log have it
        workspace = call.require_principal().workspace
        second = int(time.monotonic())
        if second != self._second:
            self._second, self._written = second, Counter()
        if self._written[workspace] >= _PER_SECOND:
            self._suppressed[workspace] += 1
            return
        self._written[workspace] += 1
        record = records.encode(records.refusal_record(call, refusal))
        self._upkeep.spawn(self._append(workspace, record, refused=1))

    async def flush(self) -> None:
        """Write the summary of what was only counted."""
        suppressed, self._suppressed = self._suppressed, Counter()
        for workspace, refused in suppressed.items():
            record = records.encode(records.summary_record(workspace, refused))
            await self._append(workspace, record, refused=refused)

    async def _append(self, workspace: str, record: bytes, *, refused: int) -> None:
        try:
            await self._journal.append(workspace, record)
        except StoreUnavailable:
            self._suppressed[workspace] += refused  # in the next summary
