"""The port `core.history.History` on SQL."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import and_, false, func, or_, select, tuple_, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from govmiddleware.core.history import Sums, is_clock, latest
from govmiddleware.core.limits import split_counter_name
from govmiddleware.core.ports import JournalEntry, SettledHold
from govmiddleware.core.windows import window_named
from govmiddleware.journal.database import Database
from govmiddleware.journal.rows import record_row
from govmiddleware.journal.tables import counters, holds, records, tags, workspaces
from govmiddleware.services import records as record_format

_PAGE = 500

_Position = tuple[int, int]
"""A record's id in the stream: milliseconds and a number within them."""


class SqlHistory:
    """The journal's records, kept for good."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def append(self, workspace: str, entries: Sequence[JournalEntry]) -> int:
        if not entries:
            return 0
        async with self._database.write() as connection:
            rows = {identity(entry): record_row(workspace, identity(entry), entry) for entry in entries}
            found = await connection.execute(
                self._insert(connection, records).returning(records.c.id, records.c.identity),
                list(rows.values()),
            )
            ids = {row.identity: row.id for row in found}
            new = [
                entry
                for entry in {identity(entry): entry for entry in entries}.values()
                if identity(entry) in ids
            ]
            await self._append_tags(connection, ids, new)
            await self._append_holds(connection, workspace, ids, new)
            await self._advance(connection, workspace, max(position(entry.record_id) for entry in entries))
        return len(new)

    async def drained_to(self, workspace: str) -> str:
        async with self._database.read() as connection:
            return await drained_to(connection, workspace)

    async def workspaces(self) -> list[str]:
        async with self._database.read() as connection:
            found = await connection.execute(select(workspaces.c.name).order_by(workspaces.c.name))
            return list(found.scalars())

    async def entries(
        self, workspace: str, *, after: str = "", until: str = ""
    ) -> AsyncIterator[JournalEntry]:
        at = tuple_(records.c.stream_ms, records.c.stream_sequence, records.c.id)
        start: tuple[int, ...] = (*position(after), 1 << 62) if after else (-1, 0, 0)
        end = (*(position(until) if until else (1 << 62, 0)), 1 << 62)
        page = (
            select(records)
            .where(records.c.workspace == workspace)
            .order_by(records.c.stream_ms, records.c.stream_sequence, records.c.id)
            .limit(_PAGE)
        )
        while True:
            async with self._database.read() as connection:
                rows = (await connection.execute(page.where(at > start, at <= end))).all()
                held = await _holds_of(connection, [row.id for row in rows])
            for row in rows:
                yield _entry(row, held)
            if len(rows) < _PAGE:
                return
            start = (rows[-1].stream_ms, rows[-1].stream_sequence, rows[-1].id)

    async def counters(self, workspace: str) -> list[str]:
        async with self._database.read() as connection:
            found = await connection.execute(select(counters.c.name).where(counters.c.workspace == workspace))
            return list(found.scalars())

    async def sums(self, workspace: str, since_ms: int) -> tuple[Sums, str]:
        windows = select(counters.c.window).where(counters.c.workspace == workspace).distinct()
        amount = holds.c.amount
        query = (
            select(counters.c.name, holds.c.bucket, func.sum(amount), func.max(amount), func.min(amount))
            .join_from(counters, holds)
            .where(counters.c.workspace == workspace)
            .group_by(counters.c.name, holds.c.bucket)
        )
        async with self._database.read() as connection:
            to = await drained_to(connection, workspace)
            still_count = [
                and_(
                    counters.c.window == window, holds.c.bucket >= window_named(window).first_bucket(since_ms)
                )
                for window in (await connection.execute(windows)).scalars()
            ]
            found = await connection.execute(query.where(or_(false(), *still_count)))
            sums = {
                (name, bucket): latest(most, least) if is_clock(name) else int(total)
                for name, bucket, total, most, least in found
            }
            return sums, to

    async def outcomes(self, workspace: str, reservation_ids: Sequence[str]) -> dict[str, JournalEntry]:
        outcomes = {}
        async with self._database.read() as connection:
            for first in range(0, len(reservation_ids), _PAGE):
                some = [f"outcome:{each}" for each in reservation_ids[first : first + _PAGE]]
                rows = (
                    await connection.execute(
                        select(records).where(records.c.workspace == workspace, records.c.identity.in_(some))
                    )
                ).all()
                held = await _holds_of(connection, [row.id for row in rows])
                for row in rows:
                    outcomes[row.identity.removeprefix("outcome:")] = _entry(row, held)
        return outcomes

    async def sent_again(self, workspace: str, entries: Sequence[JournalEntry]) -> set[str]:
        ids = {identity(entry): entry.record_id for entry in entries}
        found = select(records.c.identity, records.c.stream_ms, records.c.stream_sequence).where(
            records.c.workspace == workspace, records.c.identity.in_(list(ids))
        )
        async with self._database.read() as connection:
            return {
                ids[row.identity]
                for row in await connection.execute(found)
                if position(ids[row.identity]) != (row.stream_ms, row.stream_sequence)
            }

    async def epoch(self, workspace: str) -> str | None:
        async with self._database.read() as connection:
            found = await connection.execute(select(workspaces.c.epoch).where(workspaces.c.name == workspace))
            epoch: str | None = found.scalar_one_or_none()
            return epoch

    async def begin_epoch(self, workspace: str, epoch: str) -> str:
        known = await self.epoch(workspace)
        if known is not None:
            return known
        async with self._database.write() as connection:
            await connection.execute(
                self._insert(connection, workspaces), {"name": workspace, "epoch": epoch}
            )
            await connection.execute(
                update(workspaces)
                .where(workspaces.c.name == workspace, workspaces.c.epoch.is_(None))
                .values(epoch=epoch)
            )
            found = await connection.execute(select(workspaces.c.epoch).where(workspaces.c.name == workspace))
            in_force: str = found.scalar_one()
            return in_force

    async def _append_tags(
        self, connection: AsyncConnection, ids: Mapping[str, int], new: Iterable[JournalEntry]
    ) -> None:
        rows = [
            {"record": ids[identity(entry)], "name": name, "value": value}
            for entry in new
            for name, value in record_format.decode(entry.record).tags.items()
        ]
        if rows:
            await connection.execute(tags.insert(), rows)

    async def _append_holds(
        self, connection: AsyncConnection, workspace: str, ids: Mapping[str, int], new: Iterable[JournalEntry]
    ) -> None:
        amounts: dict[tuple[int, str, int], int] = {}
        for entry in new:
            for hold in entry.holds:
                key = ids[identity(entry)], hold.counter, hold.bucket
                amounts[key] = amounts.get(key, 0) + hold.amount
        if not amounts:
            return
        names = sorted({counter for _, counter, _ in amounts})
        await connection.execute(
            self._insert(connection, counters),
            [{"workspace": workspace, "name": name, "window": split_counter_name(name)[2]} for name in names],
        )
        counter_ids: dict[str, int] = {}
        for first in range(0, len(names), _PAGE):
            some = names[first : first + _PAGE]
            found = await connection.execute(
                select(counters.c.name, counters.c.id).where(
                    counters.c.workspace == workspace, counters.c.name.in_(some)
                )
            )
            counter_ids.update((row.name, row.id) for row in found)
        await connection.execute(
            holds.insert(),
            [
                {"record": record, "counter": counter_ids[counter], "bucket": bucket, "amount": amount}
                for (record, counter, bucket), amount in amounts.items()
            ],
        )

    async def _advance(self, connection: AsyncConnection, workspace: str, to: _Position) -> None:
        await connection.execute(self._insert(connection, workspaces), {"name": workspace})
        at = tuple_(workspaces.c.drained_ms, workspaces.c.drained_sequence)
        await connection.execute(
            update(workspaces)
            .where(workspaces.c.name == workspace, at < to)
            .values(drained_ms=to[0], drained_sequence=to[1])
        )

    def _insert(self, connection: AsyncConnection, table: Any) -> Any:
        """An INSERT that leaves out what is there already."""
        dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
        return dialect.insert(table).on_conflict_do_nothing()


def position(record_id: str) -> _Position:
    """Of an id of the stream, in an order."""
    ms, _, sequence = record_id.partition("-")
    return int(ms), int(sequence or 0)


def identity(entry: JournalEntry) -> str:
    """What makes two records the same one.

    A reservation has one outcome and one correction, under whichever id the stream has them: a store that lost the
    last of what it acknowledged is sent it again. Of other records the id, and what they say: after a failover two
    may have the same id.
    """
    record = record_format.decode(entry.record)
    if record.reservation_id is not None and record.kind in ("outcome", "correction"):
        return f"{record.kind}:{record.reservation_id}"
    return f"{entry.record_id}:{hashlib.sha256(entry.record).hexdigest()[:16]}"


def _entry(row: Any, held: Mapping[int, Sequence[SettledHold]]) -> JournalEntry:
    """A row of `records`, and the holds by the rows' ids."""
    record_id = f"{row.stream_ms}-{row.stream_sequence}"
    admitted = None if row.time_ms == row.at_ms else row.time_ms
    return JournalEntry(record_id, row.at_ms, tuple(held.get(row.id, ())), row.record.encode(), admitted)


async def drained_to(connection: AsyncConnection, workspace: str) -> str:
    """The id of the workspace's last record, as this transaction sees it; empty where there is none."""
    found = await connection.execute(
        select(workspaces.c.drained_ms, workspaces.c.drained_sequence).where(workspaces.c.name == workspace)
    )
    row = found.one_or_none()
    return "" if row is None or tuple(row) == (0, 0) else f"{row[0]}-{row[1]}"


async def _holds_of(connection: AsyncConnection, ids: Sequence[int]) -> dict[int, list[SettledHold]]:
    found = await connection.execute(
        select(holds.c.record, counters.c.name, holds.c.bucket, holds.c.amount)
        .join_from(holds, counters)
        .where(holds.c.record.in_(ids))
    )
    held: dict[int, list[SettledHold]] = {}
    for record, name, bucket, amount in found:
        held.setdefault(record, []).append(SettledHold(name, bucket, amount))
    return held
