"""What was used, of all that is known of it: the history in SQL, the stream after it, and the calls that are open."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import chain

import msgspec

from govmiddleware.core.history import History
from govmiddleware.core.journal import Journal, JournalEntry, OpenReservation
from govmiddleware.core.money import nano_usd
from govmiddleware.core.reports import Group, Reports, Span, Sums
from govmiddleware.core.scopes import DEPLOYMENT_WORKSPACE, TAG
from govmiddleware.services import records
from govmiddleware.services.records import Record

_PAGE = 500


class Tail(msgspec.Struct, frozen=True):
    """What SQL does not have yet of a workspace, as one moment saw it: each call is either in `entries` or open."""

    entries: Sequence[JournalEntry]
    reservations: Sequence[OpenReservation]

    def counters(self) -> set[str]:
        """The names of those that it speaks of."""
        holds = chain(*(entry.holds for entry in self.entries), *(each.holds for each in self.reservations))
        return {hold.counter for hold in holds}


async def read_tail(journal: Journal, history: History, workspace: str, after: str) -> Tail:
    """What follows record `after`, the last one in SQL, but for records that it has under an earlier id. Raises
    StoreUnavailable and HistoryUnavailable."""
    snapshot = await journal.snapshot(workspace, [])
    found = journal.entries(workspace, after=after, until=snapshot.last_record_id)
    entries = [entry async for entry in found]
    again: set[str] = set()
    for first in range(0, len(entries), _PAGE):
        again |= await history.sent_again(workspace, entries[first : first + _PAGE])
    return Tail([entry for entry in entries if entry.record_id not in again], snapshot.reservations)


class Used:
    """Adds up. Every call raises StoreUnavailable and HistoryUnavailable."""

    def __init__(self, journal: Journal, history: History, reports: Reports) -> None:
        self._journal = journal
        self._history = history
        self._reports = reports

    async def sums(self, workspace: str, by: Sequence[str], span: Span) -> tuple[dict[Group, Sums], Tail]:
        """By slice of the span, and the values of `by`; and what is not in SQL yet, which is added up already.

        A call belongs to the time of its admission, as it does in the counters. Records of the deployment's
        pseudo-workspace stand for others', and add nothing.
        """
        stored, drained_to = await self._reports.sums(workspace, by, span)
        tail = await read_tail(self._journal, self._history, workspace, drained_to)
        sums: dict[Group, Sums] = defaultdict(Sums, stored)
        if workspace != DEPLOYMENT_WORKSPACE:
            for number, record in _within(span, ((entry.time_ms, entry.record) for entry in tail.entries)):
                sums[number, _values(record, by)] += records.sums_of(record)
            open_ = ((each.admitted_ms, each.record) for each in tail.reservations)
            for number, record in _within(span, open_):
                sums[number, _values(record, by)] += Sums(reserved=nano_usd(record.cost_usd or 0))
        return {group: each for group, each in sums.items() if each != Sums()}, tail


def _within(span: Span, raw: Iterable[tuple[int, bytes | None]]) -> Iterable[tuple[int, Record]]:
    """The records of the span, with their slices."""
    for time_ms, record in raw:
        number = span.slice_of(time_ms)
        if record is not None and number is not None:
            yield number, records.decode(record)


def _values(record: Record, by: Sequence[str]) -> tuple[str | None, ...]:
    return tuple(_value(record, dimension) for dimension in by)


def _value(record: Record, dimension: str) -> str | None:
    if dimension.startswith(TAG):
        return record.tags.get(dimension.removeprefix(TAG))
    value: str | None = getattr(record, "model_requested" if dimension == "model" else dimension)
    return value
