"""Backfill of limits that come into force in mid-window: they find what was used since the window began.

A counter is held by the calls that a limit made hold it. Those before, and those that ran when the limit came, did
not; what they used is added to the bucket of their admission, with a record in the journal, so that the counter stays
the journal's sum. Which these are, the history tells at any time: calls of the current window whose records do not
hold the counter, less what was backfilled before.

A limit is looked at when it comes into force, and again, at growing intervals, until all calls that ran then are in
the history. One worker at a time does it; a note in the store says how far each kind of counter is, so that the others,
and those that start later, leave it alone.
"""

from __future__ import annotations

import hashlib
import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping

from govmiddleware.core.adjustments import Action, Adjustment, Adjustments, Restored
from govmiddleware.core.backfill import BACKFILL, BackfillNotes, Kind, MissedUse, kinds_of
from govmiddleware.core.history import History
from govmiddleware.core.journal import Journal
from govmiddleware.core.limits import Limit
from govmiddleware.core.refusals import Unavailable
from govmiddleware.core.scopes import DEPLOYMENT_WORKSPACE
from govmiddleware.errors import HistoryUnavailable, StoreLost
from govmiddleware.services import records
from govmiddleware.services.history import all_workspaces
from govmiddleware.services.records import Record
from govmiddleware.services.used import read_tail

logger = logging.getLogger("govmiddleware.backfill")

BACKFILL_SECONDS = 2.0

_EVERYWHERE_MS = 60_000
"""After how long every worker makes calls hold the counters of a limit: a rolling restart takes a while."""
_FIRST_PAUSE_MS = 5_000
_CLOCKS_APART_MS = 5_000
"""By how much the clocks of two slots of the store may differ."""
_MOST_UNSETTLED = 10_000
"""In a query."""
_DONE = "done"
_BACKFILL = BACKFILL.encode()
"""In every record of ours: the others, which are nearly all, are not decoded."""


class Backfill:
    """Beside requests.

    Args:
        limits: those in force.
        now_ms: the clock.
    """

    def __init__(
        self,
        limits: Iterable[Limit],
        missed_use: MissedUse,
        notes: BackfillNotes,
        adjustments: Adjustments,
        journal: Journal,
        history: History,
        now_ms: Callable[[], int],
    ) -> None:
        self._limits = limits
        self._missed_use = missed_use
        self._notes = notes
        self._adjustments = adjustments
        self._journal = journal
        self._history = history
        self._now_ms = now_ms
        self._seen: set[Kind] | None = None
        self._done: set[Kind] = set()

    async def look(self) -> None:
        """Backfill what is due. To be called every BACKFILL_SECONDS; it does nothing where all is done.

        Raises StoreUnavailable.
        """
        try:
            in_force = kinds_of(self._limits)
        except Unavailable:  # the limits were not read yet
            return
        await self._forget(in_force)
        self._done &= in_force
        if self._done == in_force or not await self._notes.take_turn():
            return
        try:
            await self._look_at(in_force - self._done, await self._notes.read())
        except HistoryUnavailable as error:
            logger.warning("limits wait for what was used before them: %s", error)
        finally:
            await self._notes.leave_turn()

    async def _forget(self, in_force: set[Kind]) -> None:
        """What is said of kinds of which no limit is in force any more: calls do not hold them from now on."""
        known = set(await self._notes.read()) if self._seen is None else {kind.name for kind in self._seen}
        if gone := known - {kind.name for kind in in_force}:
            await self._notes.forget(gone)
        self._seen = in_force

    async def _look_at(self, kinds: Iterable[Kind], notes: Mapping[str, str]) -> None:
        now = self._now_ms()
        due: list[tuple[Kind, int, int]] = []
        for kind in kinds:
            start, number = notes[kind.name].split() if kind.name in notes else (str(now), "0")
            if number == _DONE:
                self._done.add(kind)
            elif now >= int(start) + _FIRST_PAUSE_MS * (2 ** int(number) - 1):
                due.append((kind, int(start), int(number)))
        if not due:
            return
        workspaces = await all_workspaces(self._history, self._journal)
        oldest = await self._oldest_call(workspaces)
        for kind, first, looks in due:
            await self._notes.write(kind.name, f"{first} {looks}")
            is_last = min(now, oldest) >= first + _EVERYWHERE_MS
            for workspace in _workspaces_of(kind, workspaces):
                try:
                    await self._backfill(workspace, kind, f"{first}:{looks}")
                except StoreLost as error:  # the others need not wait for its rebuild
                    logger.warning("%s waits for what was used before it: %s", kind.name, error)
                    is_last = False
            await self._notes.write(kind.name, f"{first} {_DONE if is_last else looks + 1}")
            if is_last:
                self._done.add(kind)

    async def _oldest_call(self, workspaces: Iterable[str]) -> int:
        """When the oldest call was admitted that is not in SQL yet; now where there is none."""
        times = [self._now_ms()]
        for workspace in workspaces:
            after = await self._history.drained_to(workspace)
            snapshot = await self._journal.snapshot(workspace, [])
            times += [each.admitted_ms for each in snapshot.reservations]
            entries = self._journal.entries(workspace, after=after, until=snapshot.last_record_id)
            times += [entry.time_ms async for entry in entries]
        return min(times)

    async def _backfill(self, workspace: str, kind: Kind, look: str) -> None:
        now, unsettled, before_ms = self._now_ms(), set[str](), None
        if kind.is_deployment_wide:  # a call is settled there after it is in its workspace
            before_ms = now - _CLOCKS_APART_MS
            after = await self._history.drained_to(workspace)
            tail = await read_tail(self._journal, self._history, workspace, after)
            unsettled = {each.id for each in tail.reservations}
            unsettled |= {records.decode(entry.record).reservation_id or "" for entry in tail.entries}
            if len(unsettled) > _MOST_UNSETTLED:
                raise HistoryUnavailable(f"{len(unsettled)} calls of the whole deployment are not in it yet")
        missed = await self._missed_use.missed(
            workspace, kind, now_ms=now, but=sorted(unsettled), before_ms=before_ms
        )
        amounts: dict[str, dict[int, int]] = defaultdict(lambda: defaultdict(int))
        for (value, bucket), amount in missed.unheld.items():
            amounts[value][bucket] += amount
        since = [
            hold
            async for entry in self._journal.entries(workspace, after=missed.drained_to)
            if _BACKFILL in entry.record and records.decode(entry.record).outcome == BACKFILL
            for hold in entry.holds
            if hold.counter.startswith(kind.prefix)
        ]
        for hold in (*missed.backfilled, *since):
            value = hold.counter.removeprefix(kind.prefix)
            if kind.value in (None, value):
                amounts[value][hold.bucket] -= hold.amount
        for value, used in amounts.items():
            missing = {bucket: amount for bucket, amount in used.items() if amount}
            if missing:
                await self._add(workspace, kind, value, missing, look)

    async def _add(
        self, workspace: str, kind: Kind, value: str, missing: Mapping[int, int], look: str
    ) -> None:
        """Of two workers that do the same look, which one that was held up may, the second changes nothing."""
        counter = kind.counter(value)
        digest = hashlib.sha256(counter.name.encode()).hexdigest()[:32]
        record = Record(kind="adjustment", workspace=workspace, outcome=BACKFILL)
        await self._adjustments.adjust(
            workspace,
            Adjustment(
                f"backfill:{digest}:{look}",
                Action.RESTORE,
                (counter,),
                restored=(Restored(missing),),
                record=records.encode(record),
            ),
        )
        logger.info(
            "counter %s of workspace %s was backfilled by %d", counter.name, workspace, sum(missing.values())
        )


def _workspaces_of(kind: Kind, workspaces: Iterable[str]) -> list[str]:
    """Where the counters lie."""
    if kind.is_deployment_wide:
        return [DEPLOYMENT_WORKSPACE]
    if kind.workspace is not None:
        return [kind.workspace]
    return [workspace for workspace in workspaces if workspace != DEPLOYMENT_WORKSPACE]
