"""Rebuild: counters become what the books say, while traffic runs.

What a counter lacks, or has too much, is added to it: what calls add and take meanwhile stands beside it. One at a time
may do so in a workspace, by a turn that the script looks at.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterator, Sequence

import msgspec

from govmiddleware.core.adjustments import Action, Adjusted, Adjustment, Adjustments, Restored, RestoringTurns
from govmiddleware.core.history import History, Sums, is_clock
from govmiddleware.core.journal import (
    Bucket,
    CounterBuckets,
    Journal,
    JournalEntry,
    OpenReservation,
    Snapshot,
    StoredKeys,
)
from govmiddleware.core.limits import Counter, counter_named, is_counter_name
from govmiddleware.core.ports import Ledger
from govmiddleware.errors import CannotRestore
from govmiddleware.services.books import RECORDS_AT_ONCE, Books, open_books

logger = logging.getLogger("govmiddleware.rebuild")

_DAY_MS = 86_400_000
"""For so long after its end a window's counter is kept: late settlements belong there."""
_AT_ONCE = 100
"""Counters of one look and one restoration."""
_GONE = CounterBuckets(oldest=0, buckets={}, sums=None)


class Rebuilt(msgspec.Struct, frozen=True):
    """What was done to a workspace: how many counters were restored, and whether it had been lost."""

    workspace: str
    counters: int
    was_lost: bool


class Rebuilding:
    """Restores counters from the journal."""

    def __init__(
        self,
        ledger: Ledger,
        journal: Journal,
        history: History,
        adjustments: Adjustments,
        turns: RestoringTurns,
    ) -> None:
        self._ledger = ledger
        self._journal = journal
        self._history = history
        self._adjustments = adjustments
        self._turns = turns

    async def rebuild(self) -> list[Rebuilt]:
        """All workspaces that the history or the store knows. Raises StoreUnavailable, HistoryUnavailable, and
        CannotRestore; what was rebuilt before stays so."""
        stored = await self._journal.stored_keys()
        workspaces = {
            *stored,
            *await self._journal.workspaces(),
            *await self._history.workspaces(),
        }
        return [await self.workspace(each, stored.get(each)) for each in sorted(workspaces)]

    async def workspace(
        self, workspace: str, stored: StoredKeys | None = None, *, unless_lost: bool = False
    ) -> Rebuilt:
        """One of them.

        Args:
            stored: what else the store has of it than what the books and the open reservations know of.
            unless_lost: leave it alone where the store has lost it as a whole.

        Raises as `rebuild`.
        """
        first = await self._journal.snapshot(workspace, [])
        epoch = await self._history.epoch(workspace)
        if first.epoch is not None and epoch != first.epoch:
            raise CannotRestore(
                f"workspace {workspace!r}: the counters of this store are not in this journal (journal_url)"
            )
        if unless_lost and first.epoch is None:
            return Rebuilt(workspace, 0, epoch is not None)
        turn = await self._turns.begin(workspace, await self._history.drained_to(workspace))
        if turn is None:
            whose = await self._turns.whose(workspace)
            raise CannotRestore(f"workspace {workspace!r}: another restoration is under way ({whose})")
        whole = False
        try:
            await self._drain(workspace)
            await self._end_reservations(workspace, first, stored)
            restored = await self._restore(workspace, turn, stored)
            whole = True
        finally:
            in_time = await self._turns.end(workspace, turn, epoch if whole else None)
        if not in_time:
            raise CannotRestore(f"workspace {workspace!r}: it took too long, and has to be done again")
        return Rebuilt(workspace, restored, first.epoch is None and epoch is not None)

    async def _drain(self, workspace: str) -> None:
        """See to it that SQL has all of the stream, whichever ids a failover has given out."""
        page: list[JournalEntry] = []
        async for entry in self._journal.entries(workspace):
            page.append(entry)
            if len(page) == RECORDS_AT_ONCE:
                await self._history.append(workspace, page)
                page = []
        await self._history.append(workspace, page)

    async def _end_reservations(self, workspace: str, first: Snapshot, stored: StoredKeys | None) -> None:
        """Those that SQL has settled, which the store has forgotten, hold nothing any more; those that are not
        listed, which nobody would sweep, are settled as reserved."""
        settled = await self._history.outcomes(workspace, [each.id for each in first.reservations])
        for reservation in first.reservations:
            if reservation.id in settled:
                await self._settle(workspace, reservation, {}, None)
        for reservation in await self._journal.unlisted(workspace, stored.reservations if stored else ()):
            if reservation.id in await self._history.outcomes(workspace, [reservation.id]):
                await self._settle(workspace, reservation, {}, None)
            else:
                held: dict[str, int] = defaultdict(int)
                for hold in reservation.holds:
                    held[hold.counter] += hold.amount
                await self._settle(workspace, reservation, held, reservation.record)

    async def _settle(
        self, workspace: str, reservation: OpenReservation, amounts: dict[str, int], record: bytes | None
    ) -> None:
        counters = {counter_named(hold.counter) for hold in reservation.holds}
        await self._ledger.settle(workspace, reservation.id, tuple(counters), amounts, record)

    async def _restore(self, workspace: str, turn: str, stored: StoredKeys | None) -> int:
        first = await self._journal.snapshot(workspace, [])
        books = await open_books(self._journal, self._history, workspace, first.now_ms - _DAY_MS)
        await books.read_on(first.last_record_id)
        names = {name for name in (stored.counters if stored else ()) if is_counter_name(name)}
        names.update(name for name, _ in books.used)
        names.update(hold.counter for reservation in first.reservations for hold in reservation.holds)
        counters = [counter_named(name) for name in sorted(names)]
        restored = 0
        for begin in range(0, len(counters), _AT_ONCE):
            some = counters[begin : begin + _AT_ONCE]
            snapshot = await self._journal.snapshot(workspace, [counter.name for counter in some])
            await books.read_on(snapshot.last_record_id)
            wanting = dict(_wanting(some, books, snapshot))
            if not wanting:
                continue
            adjusted = await self._adjustments.adjust(
                workspace,
                Adjustment(
                    f"{turn}:{begin}",
                    Action.RESTORE,
                    tuple(wanting),
                    restored=tuple(wanting.values()),
                    turn=turn,
                ),
            )
            if not isinstance(adjusted, Adjusted):
                raise CannotRestore(f"workspace {workspace!r}: it took too long, and has to be done again")
            for counter, change in wanting.items():
                logger.warning("restored counter %s of workspace %s: %s", counter.name, workspace, change)
            restored += len(wanting)
        return restored


def _wanting(
    counters: Sequence[Counter], books: Books, snapshot: Snapshot
) -> Iterator[tuple[Counter, Restored]]:
    """What has to be added to counters, of those that are not as they should be."""
    held: Sums = defaultdict(int)
    for reservation in snapshot.reservations:
        for hold in reservation.holds:
            held[hold.counter, hold.bucket] += hold.amount
    by_counter: dict[str, set[int]] = defaultdict(set)
    for name, bucket in books.used.keys() | held.keys():
        by_counter[name].add(bucket)
    for counter in counters:
        name, window = counter.name, counter.window
        first = window.first_bucket(snapshot.now_ms - (0 if counter.is_sliding else _DAY_MS))
        found = snapshot.counters.get(name, _GONE)
        used: dict[int, int] = {}
        reserved: dict[int, int] = {}
        for bucket in sorted(by_counter[name] | found.buckets.keys()):
            if bucket < first:
                continue
            books_have = books.used.get((name, bucket), 0)
            if is_clock(name):
                if books_have > 0 and found.first_use.get(bucket) != books_have:
                    used[bucket] = books_have
                continue
            has = found.buckets.get(bucket, Bucket(0, 0))
            if books_have != has.used:
                used[bucket] = books_have - has.used
            if held[name, bucket] != has.reserved:
                reserved[bucket] = held[name, bucket] - has.reserved
        if used or reserved or found.sums != found.added_up():
            yield counter, Restored(used, reserved)
