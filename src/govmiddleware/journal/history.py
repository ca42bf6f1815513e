"""The port `core.history.History` on SQL."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from sqlalchemy import and_, false, func, or_, select, tuple_, update

from govmiddleware.core.history import Sums, is_clock, latest
from govmiddleware.core.journal import JournalEntry, SettledHold
from govmiddleware.core.windows import window_named
from govmiddleware.journal.batch import Batch, new_unreadable, next_ids
from govmiddleware.journal.bulk import Row, insert_all, insert_missing
from govmiddleware.journal.connection import AsyncConnection
from govmiddleware.journal.database import Database
from govmiddleware.journal.rows import draft, position, record_bytes
from govmiddleware.journal.tables import counters, holds, records, workspaces
from govmiddleware.services.records import UNREADABLE

logger = logging.getLogger("govmiddleware.history")

_PAGE = 500

_Position = tuple[int, int]
"""A record's id in the stream: milliseconds and a number within them."""


class SqlHistory:
    """The journal's records, kept for good."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def ping(self) -> None:
        await self._database.ping()

    async def append(self, workspace: str, entries: Sequence[JournalEntry]) -> int:
        if not entries:
            return 0
        batch = await Batch.of(workspace, entries)
        async with self._database.write() as connection:
            ids = await next_ids(connection, len(batch.drafts))
            inserted, *_ = await insert_all(connection, batch.work(ids))
            await self._advance(connection, workspace, batch.last)
            unreadable = await new_unreadable(connection, ids, batch.drafts.values())
        for entry in unreadable:
            logger.error(
                "record %s of workspace %s cannot be read; it is kept whole, as kind %s",
                entry.record_id,
                workspace,
                UNREADABLE,
            )
        return inserted

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
        windows = (
            select(counters.c.window)
            .where(counters.c.workspace == workspace, counters.c.window != "")
            .distinct()
        )
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
        ids = {draft(workspace, entry).identity: entry.record_id for entry in entries}
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
            await insert_missing(connection, workspaces, [_unknown(workspace) | {"epoch": epoch}])
            await connection.execute(
                update(workspaces)
                .where(workspaces.c.name == workspace, workspaces.c.epoch.is_(None))
                .values(epoch=epoch)
            )
            found = await connection.execute(select(workspaces.c.epoch).where(workspaces.c.name == workspace))
            in_force: str = found.scalar_one()
            return in_force

    async def _advance(self, connection: AsyncConnection, workspace: str, to: _Position) -> None:
        await insert_missing(connection, workspaces, [_unknown(workspace)])
        at = tuple_(workspaces.c.drained_ms, workspaces.c.drained_sequence)
        await connection.execute(
            update(workspaces)
            .where(workspaces.c.name == workspace, at < to)
            .values(drained_ms=to[0], drained_sequence=to[1])
        )


def _unknown(workspace: str) -> Row:
    return {"name": workspace, "drained_ms": 0, "drained_sequence": 0}


def _entry(row: Any, held: Mapping[int, Sequence[SettledHold]]) -> JournalEntry:
    """A row of `records`, and the holds by the rows' ids."""
    record_id = f"{row.stream_ms}-{row.stream_sequence}"
    return JournalEntry(
        record_id,
        row.at_ms,
        tuple(held.get(row.id, ())),
        record_bytes(row.kind, row.record),
        None if row.time_ms == row.at_ms else row.time_ms,
    )


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
