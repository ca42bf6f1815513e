"""The journal as the store has it: what a look at its records and counters gives, and the port for it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Protocol

import msgspec


class SettledHold(msgspec.Struct, frozen=True):
    """What one record did to one counter: `amount` in the bucket of the admission. Made many times a record."""

    counter: str
    bucket: int
    amount: int


class JournalEntry(msgspec.Struct, frozen=True):
    """A record as the journal holds it. `record` is the JSON of `services.records.Record`.

    Attributes:
        admitted_ms: of a call, when its last limits took it; None where that is `at_ms`.
    """

    record_id: str
    at_ms: int
    holds: tuple[SettledHold, ...]
    record: bytes
    admitted_ms: int | None = None

    @property
    def time_ms(self) -> int:
        """The time that it belongs to: its call's admission, as in the counters."""
        return self.at_ms if self.admitted_ms is None else self.admitted_ms


class OpenReservation(msgspec.Struct, frozen=True):
    """A reservation that is not settled yet. `record` is what the journal gets if its lease runs out.

    Attributes:
        admitted_ms: when its last limits took it; 0 where the reservation is lost.
    """

    id: str
    holds: tuple[SettledHold, ...]
    record: bytes | None
    admitted_ms: int = 0


class Bucket(msgspec.Struct, frozen=True):
    """One bucket of a counter."""

    used: int
    reserved: int


class CounterBuckets(msgspec.Struct, frozen=True):
    """A counter as it is stored: its buckets, from the oldest one that still counts on, and for a sliding
    one the sums it keeps over them."""

    oldest: int
    buckets: Mapping[int, Bucket]
    sums: Bucket | None
    first_use: Mapping[int, int] = {}
    """Of wall_clock, which has no amounts: when the window that begins with the bucket was first used, ms."""

    def added_up(self) -> Bucket | None:
        """What `sums` has to be."""
        if self.sums is None:
            return None
        counted = [amounts for bucket, amounts in self.buckets.items() if bucket >= self.oldest]
        return Bucket(sum(amounts.used for amounts in counted), sum(amounts.reserved for amounts in counted))


class Snapshot(msgspec.Struct, frozen=True):
    """One consistent look at a workspace: all of it belongs to the journal up to `last_record_id`.

    Attributes:
        now_ms: by the store's clock.
        epoch: names the life of the counters; None where none was used yet, or the store has lost them.
    """

    last_record_id: str
    now_ms: int
    epoch: str | None
    reservations: tuple[OpenReservation, ...]
    counters: Mapping[str, CounterBuckets]


class StoredKeys(msgspec.Struct):
    """What the store has of a workspace, by its keys: the names of counters, and the ids of reservations."""

    counters: set[str] = set()
    reservations: set[str] = set()


class Journal(Protocol):
    """The records. Every call raises StoreUnavailable."""

    async def append(self, workspace: str, record: bytes) -> None:
        """A record that touches no counter (a refusal, a summary)."""
        ...

    def entries(self, workspace: str, *, after: str = "", until: str = "") -> AsyncIterator[JournalEntry]:
        """In order: after record `after`, up to and with record `until`."""
        ...

    def recent(self, workspace: str, seconds: float) -> AsyncIterator[JournalEntry]:
        """Those of the last `seconds`, by the store's clock, in order."""
        ...

    async def page(self, workspace: str, start: str, count: int) -> list[JournalEntry]:
        """Up to `count` records: from record `start` on, and with it; from the first on where that is empty."""
        ...

    async def length(self, workspace: str) -> int:
        """How many records the store has."""
        ...

    async def trim(self, workspace: str, before: str, drained: int) -> int:
        """Let go of the records before record `before`, of none where that is empty or not there any more.

        Args:
            drained: how many of the records that the store has are in SQL. They do not count towards
                `journal_max_records`.

        Returns how many were let go.
        """
        ...

    async def open_reservations(self, workspace: str) -> list[OpenReservation]: ...

    async def snapshot(self, workspace: str, counters: Sequence[str]) -> Snapshot: ...

    async def stored_keys(self) -> dict[str, StoredKeys]:
        """Those of all workspaces. It walks over the whole store, by cursor: for audits alone."""
        ...

    async def unlisted(self, workspace: str, reservation_ids: Iterable[str]) -> list[OpenReservation]:
        """Of these reservations, which were open once, those that are neither listed as open nor ended."""
        ...

    async def workspaces(self) -> list[str]: ...
