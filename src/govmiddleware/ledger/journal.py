"""The journal on Redis: one stream a workspace, read in pages; and the audit's consistent snapshots."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Any, cast

import msgspec

from govmiddleware.core.journal import (
    Bucket,
    CounterBuckets,
    JournalEntry,
    OpenReservation,
    SettledHold,
    Snapshot,
    StoredKeys,
)
from govmiddleware.ledger import scripts
from govmiddleware.ledger.connection import LONG_PATIENCE_SECONDS, Client, store_call
from govmiddleware.ledger.directory import read_directory
from govmiddleware.ledger.keys import WorkspaceKeys
from govmiddleware.ledger.reservation import StoredReservation, read_reservation

_PAGE = 200
"""Records of one answer: few enough that a cluster's node, which has half a second, can give them under load."""
_SCANNED = 1000
"""Keys that one step of a walk over the store looks at: about a millisecond of its time."""


class RedisJournal:
    """The port `core.journal.Journal`.

    Args:
        clock: a test's clock in Unix milliseconds; without it the store's own TIME decides.
    """

    def __init__(self, redis: Client, *, clock: Callable[[], int] | None = None) -> None:
        self._redis = redis
        self._clock = clock

    async def append(self, workspace: str, record: bytes) -> None:
        async with store_call():
            await self._redis.xadd(WorkspaceKeys(workspace).journal, {b"record": record})

    async def clear(self, workspace: str) -> None:
        """Forget all records: for a store whose counters alone are wanted."""
        async with store_call():
            await self._redis.delete(WorkspaceKeys(workspace).journal)

    async def entries(
        self, workspace: str, *, after: str = "", until: str = ""
    ) -> AsyncIterator[JournalEntry]:
        async for entry in self._range(workspace, f"({after}" if after else "-", until or "+"):
            yield entry

    async def recent(self, workspace: str, seconds: float) -> AsyncIterator[JournalEntry]:
        async with store_call(LONG_PATIENCE_SECONDS):
            start = await scripts.since(
                self._redis, [WorkspaceKeys(workspace).journal], [round(seconds * 1000)]
            )
        async for entry in self._range(workspace, start.decode(), "+"):
            yield entry

    async def page(self, workspace: str, start: str, count: int) -> list[JournalEntry]:
        return await self._page(WorkspaceKeys(workspace), start or "-", "+", count)

    async def length(self, workspace: str) -> int:
        async with store_call(LONG_PATIENCE_SECONDS):
            return int(await self._redis.xlen(WorkspaceKeys(workspace).journal))

    async def trim(self, workspace: str, before: str, drained: int) -> int:
        keys = WorkspaceKeys(workspace)
        async with store_call(LONG_PATIENCE_SECONDS):
            return int(await scripts.trim(self._redis, [keys.journal, keys.state], [before, drained]))

    async def _range(self, workspace: str, start: str, end: str) -> AsyncIterator[JournalEntry]:
        keys = WorkspaceKeys(workspace)
        while True:
            page = await self._page(keys, start, end, _PAGE)
            for entry in page:
                yield entry
            if len(page) < _PAGE:
                return
            start = "(" + page[-1].record_id

    async def _page(self, keys: WorkspaceKeys, start: str, end: str, count: int) -> list[JournalEntry]:
        async with store_call(LONG_PATIENCE_SECONDS):
            page = cast(
                "list[tuple[bytes, dict[bytes, bytes]]]",
                await self._redis.xrange(keys.journal, start, end, count=count),
            )
        return [_entry(keys, record_id, fields) for record_id, fields in page]

    async def open_reservations(self, workspace: str) -> list[OpenReservation]:
        return list((await self.snapshot(workspace, [])).reservations)

    async def snapshot(self, workspace: str, counters: Sequence[str]) -> Snapshot:
        keys = WorkspaceKeys(workspace)
        async with store_call(LONG_PATIENCE_SECONDS):
            last, now, epoch, reservations, *rest = await scripts.snapshot(
                self._redis,
                [keys.state, keys.open, keys.journal, *(keys.counter(name) for name in counters)],
                [self._clock() if self._clock else "", keys.reservation_prefix],
            )
        return Snapshot(
            last.decode(),
            int(now),
            epoch.decode() or None,
            tuple(
                _open_reservation(keys, name.decode(), read_reservation(stored))
                for name, stored in zip(reservations[::2], reservations[1::2], strict=True)
            ),
            {
                name: _counter(_pairs(flat))
                for name, flat in zip(counters, rest, strict=True)
                if b"o" in flat[::2] or b"r0" in flat[::2]  # else it has gone, and only tells of crossings
            },
        )

    async def stored_keys(self) -> dict[str, StoredKeys]:
        found: dict[str, StoredKeys] = defaultdict(StoredKeys)
        cursor = self._redis.scan_iter(match="gov:{*}:[cr]:*", count=_SCANNED)
        while True:
            async with store_call(LONG_PATIENCE_SECONDS):
                key = await anext(cursor, None)
            if key is None:
                return found
            workspace, _, rest = key.decode().removeprefix("gov:{").partition("}:")
            kind, _, name = rest.partition(":")
            stored = found[workspace]
            (stored.counters if kind == "c" else stored.reservations).add(name)

    async def unlisted(self, workspace: str, reservation_ids: Iterable[str]) -> list[OpenReservation]:
        keys, unlisted = WorkspaceKeys(workspace), []
        for reservation_id in reservation_ids:
            async with store_call(LONG_PATIENCE_SECONDS):
                if await self._redis.zscore(keys.open, reservation_id) is not None:
                    continue
                # In this order: one that ends meanwhile is gone by now.
                stored: Any = await self._redis.get(keys.reservation(reservation_id))
            reservation = read_reservation(stored)
            if reservation.is_open:
                unlisted.append(_open_reservation(keys, reservation_id, reservation))
        return unlisted

    async def workspaces(self) -> list[str]:
        async with store_call(LONG_PATIENCE_SECONDS):
            return await read_directory(self._redis)


def _entry(keys: WorkspaceKeys, record_id: bytes, fields: dict[bytes, bytes]) -> JournalEntry:
    """Beside `at`, `admitted` and `record`, an entry has a field for each counter: bucket, amount, and again for each
    time that it grew. A name is whole in it, whatever characters a client put there: no separator can be forged. One
    without `at` is as old as its id says.
    What is no entry of ours is kept whole, as a record that nobody can read."""
    made_at = int(record_id.partition(b"-")[0])
    prefix = keys.counter_prefix.encode()
    cut = len(prefix)
    try:
        holds: list[SettledHold] = []
        for key, settled in fields.items():
            if key[:cut] == prefix:
                counter, numbers = key[cut:].decode(), map(int, settled.split())
                for bucket, amount in zip(numbers, numbers, strict=True):
                    holds.append(SettledHold(counter, bucket, amount))
        at = int(fields.get(b"at", made_at))
        admitted = int(fields[b"admitted"]) if b"admitted" in fields else None
        return JournalEntry(record_id.decode(), at, tuple(holds), fields[b"record"], admitted)
    except (KeyError, ValueError):
        return JournalEntry(record_id.decode(), made_at, (), msgspec.json.encode(list(fields.items())))


def _open_reservation(keys: WorkspaceKeys, reservation_id: str, stored: StoredReservation) -> OpenReservation:
    holds: list[SettledHold] = []
    for key, hold in stored.holds.items():
        _kind, *settled = hold.split()
        counter, numbers = keys.counter_name(key), map(int, settled)
        for bucket, amount in zip(numbers, numbers, strict=True):
            holds.append(SettledHold(counter, bucket, amount))
    record = stored.record.encode() if stored.is_open else None
    return OpenReservation(reservation_id, tuple(holds), record, stored.admitted_ms)


def _counter(fields: dict[str, bytes]) -> CounterBuckets:
    """Read the fields that `lua/_counters.lua` describes."""
    used: dict[int, int] = {}
    reserved: dict[int, int] = {}
    for name, value in fields.items():
        if len(name) > 1 and name[0] in "ur":
            (used if name[0] == "u" else reserved)[int(name[1:])] = int(value)
    buckets = {
        bucket: Bucket(used.get(bucket, 0), reserved.get(bucket, 0)) for bucket in used.keys() | reserved
    }
    oldest = int(fields.get("p") or fields.get("o") or 0)
    sums = Bucket(int(fields["u"]), int(fields["r"])) if "u" in fields else None
    first_use = {int(name[1:]): int(value) for name, value in fields.items() if re.fullmatch(r"f\d+", name)}
    return CounterBuckets(oldest, buckets, sums, first_use)


def _pairs(flat: list[bytes]) -> dict[str, bytes]:
    return {name.decode(): value for name, value in zip(flat[::2], flat[1::2], strict=True)}
