"""Copies the store's records into SQL, each exactly once, and lets the store go of what SQL has.

Nothing has to be remembered for that to hold. SQL takes each record once, so that whoever does not know what it took
begins at the stream's start; and the store lets nothing go but what stood in front of a record that SQL has.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

import msgspec

from govmiddleware.core.draining import DrainReport, DrainTurn
from govmiddleware.core.history import History
from govmiddleware.core.journal import Journal, JournalEntry
from govmiddleware.errors import HistoryUnavailable, StoreUnavailable
from govmiddleware.metrics import Metrics

logger = logging.getLogger("govmiddleware.drain")

DRAIN_SECONDS = 1.0
_BATCH = 500
"""Records of one transaction."""
_PAGE = 50
"""Of those, how many are read at once."""
_BATCHES_IN_TURN = 10
"""Of one workspace, before the others have theirs."""
_KEEP_SECONDS = 60.0
"""How long, at least, the store keeps what SQL has: who reads both, or looks for its settlements, has so much time."""


class _Place(msgspec.Struct):
    """How far one workspace's stream is in SQL.

    Attributes:
        last: the last record that is.
        drained: how many records, up to that one, the store still has.
        mark: a record that was in SQL at `marked`.
        front: the record before which the store was trimmed.
        is_whole: whether there was no more to copy when it was last looked at.
    """

    marked: float
    last: JournalEntry | None = None
    drained: int = 0
    mark: str = ""
    front: str = ""
    is_whole: bool = False

    @property
    def start(self) -> str:
        return self.last.record_id if self.last else ""

    def begin_again(self) -> None:
        self.last, self.drained, self.mark, self.is_whole = None, 0, "", False

    def front_at(self, now: float) -> str:
        """The record before which the store may be trimmed now; empty where there is nothing to trim."""
        if now - self.marked < _KEEP_SECONDS:
            return ""
        before, self.mark, self.marked = self.mark, self.start, now
        if before == self.front:
            return ""
        self.front = before
        return before


class Drainer:
    """One of all workers drains; `drain` is its work, to be done every second.

    Args:
        now: seconds that only grow.

    Attributes:
        report: how draining goes, whoever does it; None until somebody does.
    """

    def __init__(
        self,
        journal: Journal,
        history: History,
        turn: DrainTurn,
        metrics: Metrics,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._journal = journal
        self._history = history
        self._turn = turn
        self._metrics = metrics
        self._now = now
        self._places: dict[str, _Place] = {}
        self._errors: dict[str, str] = {}
        """What keeps workspaces from being drained, and the whole database under an empty name."""
        self.report: DrainReport | None = None

    async def drain(self) -> None:
        """Copy all that there is, if the turn is ours. Raises StoreUnavailable."""
        if not await self._turn.take():
            self._places.clear()  # another one trims meanwhile
            self._errors.clear()
            self._tell(await self._turn.report())
            return
        while True:
            report, has_more = await self._round()
            self._tell(report)
            if not await self._turn.take(report) or not has_more:
                return

    async def close(self, grace_seconds: float = 5.0) -> None:
        """Copy what is left, and let another one have the turn."""
        with suppress(StoreUnavailable, TimeoutError):
            async with asyncio.timeout(grace_seconds):
                await self.drain()
        with suppress(StoreUnavailable):
            await self._turn.leave()

    def warnings(self) -> list[str]:
        """What people should look after, in words. Calls go on."""
        report = self.report
        if report is None or not (report.error or report.lag_seconds > _KEEP_SECONDS):
            return []
        return [f"the journal's database takes no records, or not fast enough: {report.shown()}"]

    async def _round(self) -> tuple[DrainReport, bool]:
        """One round over the workspaces, and whether another one would find more at once."""
        takes_records = await self._tried("", self._history.ping())
        behind, has_more = [], False
        for workspace in await self._journal.workspaces():
            place = self._places.setdefault(workspace, _Place(self._now()))
            if not takes_records or not await self._tried(workspace, self._drain(workspace, place)):
                behind.append(workspace)
            elif not place.is_whole:
                behind.append(workspace)
                has_more = True
        waiting, oldest = 0, []
        for workspace in behind:
            with suppress(StoreUnavailable):  # the error is known already
                place = self._places[workspace]
                waiting += max(0, await self._journal.length(workspace) - place.drained)
                page = await self._journal.page(workspace, place.start, 2)
                oldest += [entry.at_ms for entry in page if entry != place.last][:1]
        error = next(iter(self._errors.values()), "")
        return DrainReport(waiting, min(oldest, default=None), error), has_more

    async def _tried(self, name: str, work: Awaitable[None]) -> bool:
        """Whether `work` succeeded. What fails in one workspace does not keep the others waiting; it is said once,
        and once that it is over."""
        what = f"workspace {name}" if name else "the journal's database"
        try:
            await work
        except Exception as error:
            if name not in self._errors:
                is_foreseen = isinstance(error, HistoryUnavailable | StoreUnavailable)
                logger.error(
                    "%s takes no records, they wait in the store: %r", what, error, exc_info=not is_foreseen
                )
            self._errors[name] = str(error)
            return False
        if self._errors.pop(name, None) is not None:
            logger.warning("%s takes records again", what)
        return True

    async def _drain(self, workspace: str, place: _Place) -> None:
        has_new = False
        for _ in range(_BATCHES_IN_TURN):
            batch = await self._batch(workspace, place)
            if batch:
                self._metrics.drained.inc(await self._history.append(workspace, batch))
                place.last, place.drained, has_new = batch[-1], place.drained + len(batch), True
            if place.is_whole:
                break
        before = place.front_at(self._now())
        if before or has_new:
            place.drained -= await self._journal.trim(workspace, before, place.drained)

    async def _batch(self, workspace: str, place: _Place) -> list[JournalEntry]:
        """The records after the place, in pages that hold up others on the event loop for a moment only."""
        batch: list[JournalEntry] = []
        count = min(_PAGE, _BATCH)
        while len(batch) + count <= _BATCH:
            last = batch[-1] if batch else place.last
            page = await self._journal.page(workspace, last.record_id if last else "", count)
            place.is_whole = len(page) < count
            if last is not None:
                if page[:1] != [last]:  # another run of the store, which may give out lower ids
                    place.begin_again()
                    return []
                del page[0]
            batch += page
            if place.is_whole:
                break
        return batch

    def _tell(self, report: DrainReport | None) -> None:
        self.report = report
        if report is None:
            return
        self._metrics.undrained.set(report.waiting)
        self._metrics.drain_lag.set(report.lag_seconds)
        self._metrics.history_down.set(int(bool(report.error)))
