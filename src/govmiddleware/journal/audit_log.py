"""The audit log on SQL: the port `core.audit_log.AuditLog`."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping

import msgspec
from sqlalchemy import select, text

from govmiddleware.core.audit_log import FIRST_MAC, Action, AuditHeads, Entry, Head, chained
from govmiddleware.errors import HistoryUnavailable, StoreUnavailable
from govmiddleware.journal.connection import AsyncConnection
from govmiddleware.journal.database import Database
from govmiddleware.journal.tables import audit_entries

logger = logging.getLogger("govmiddleware.audit_log")

_PAGE = 500


class SqlAuditLog:
    """Entries are chained by the process that appends them: the database never has the key.

    Args:
        key: of the HMAC; asked for at each entry, as it may have to be read from a file.
        heads: where the last entry is kept, too.
        now_ms: the clock.
    """

    def __init__(
        self,
        database: Database,
        key: Callable[[], bytes],
        heads: AuditHeads,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._database = database
        self._key = key
        self._heads = heads
        self._now_ms = now_ms

    async def append(self, action: Action) -> Entry:
        async with self._database.write() as connection:
            entry = await self.append_in(connection, action)
        await self.tell(entry)
        return entry

    async def append_in(self, connection: AsyncConnection, action: Action) -> Entry:
        """Append in a transaction that changes what the entry speaks of; `tell` of it when that is committed."""
        if connection.dialect.name == "postgresql":  # SQLite has one writer at a time
            await connection.execute(text("LOCK TABLE gov_audit_entry IN SHARE ROW EXCLUSIVE MODE"))
        found = await connection.execute(
            select(audit_entries.c.sequence, audit_entries.c.mac)
            .order_by(audit_entries.c.sequence.desc())
            .limit(1)
        )
        last = found.one_or_none()
        sequence, before = (last.sequence + 1, last.mac) if last else (1, FIRST_MAC)
        entry = chained(self._key(), before, sequence, self._now_ms(), action)
        await connection.execute(
            audit_entries.insert().values(
                sequence=entry.sequence,
                at_ms=entry.at_ms,
                workspace=action.workspace,
                actor=action.actor,
                action=action.action,
                subject=action.subject,
                details=entry.written,
                mac=entry.mac,
            )
        )
        return entry

    async def tell(self, entry: Entry) -> None:
        """Write the head of the chain where whoever cuts the table short does not reach: to the process' own log,
        and to the store. Never raises: the entry is committed."""
        logger.info(
            "audit log head %s: %s %s %s",
            entry.head,
            entry.action.actor,
            entry.action.action,
            entry.action.subject,
        )
        try:
            await self._advance(entry.head)
        except (HistoryUnavailable, StoreUnavailable) as error:
            logger.warning("the store did not get to know of audit log entry %d: %s", entry.sequence, error)

    async def _advance(self, head: Head) -> None:
        """What the store keeps goes forward along the chain alone. So a cut chain does not pass for whole once it
        has grown again."""
        while True:
            kept = await self._heads.read()
            if kept is not None:
                if await self._mac_at(kept.sequence) != kept.mac:
                    logger.error("the audit log has lost or changed entry %s: run govmiddleware audit", kept)
                    return
                if kept.sequence >= head.sequence:
                    return
            if await self._heads.replace(kept, head):
                return

    async def _mac_at(self, sequence: int) -> str | None:
        async with self._database.read() as connection:
            mac: str | None = await connection.scalar(
                select(audit_entries.c.mac).where(audit_entries.c.sequence == sequence)
            )
        return mac

    async def entries(self, *, after: int | None = None) -> AsyncIterator[Entry]:
        rows = select(audit_entries).order_by(audit_entries.c.sequence).limit(_PAGE)
        while True:
            page = rows if after is None else rows.where(audit_entries.c.sequence > after)
            async with self._database.read() as connection:
                found = (await connection.execute(page)).all()
            for row in found:
                action = Action(row.workspace, row.actor, row.action, row.subject, _details(row.details))
                yield Entry(row.sequence, row.at_ms, action, row.details, row.mac)
            if len(found) < _PAGE:
                return
            after = found[-1].sequence


def _details(written: str) -> Mapping[str, object]:
    """Nothing where it is none that we wrote: what the entry is worth, its mac says."""
    try:
        return msgspec.json.decode(written, type=dict[str, object])
    except (msgspec.MsgspecError, TypeError):
        return {}
