"""The audit log on SQL: the port `core.audit_log.AuditLog`."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Callable

import msgspec
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from govmiddleware.core.audit_log import FIRST_MAC, Action, Entry, chained
from govmiddleware.journal.database import Database
from govmiddleware.journal.tables import audit_entries

logger = logging.getLogger("govmiddleware.audit_log")

_PAGE = 500


class SqlAuditLog:
    """Entries are chained by the process that appends them: the database never has the key.

    Args:
        key: of the HMAC.
        now_ms: the clock.
    """

    def __init__(
        self, database: Database, key: bytes, now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000
    ) -> None:
        self._database = database
        self._key = key
        self._now_ms = now_ms

    async def append(self, action: Action) -> Entry:
        async with self._database.write() as connection:
            entry = await self.append_in(connection, action)
        self.tell(entry)
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
        entry = chained(self._key, before, sequence, self._now_ms(), action)
        await connection.execute(
            audit_entries.insert().values(
                sequence=entry.sequence,
                at_ms=entry.at_ms,
                workspace=action.workspace,
                actor=action.actor,
                action=action.action,
                subject=action.subject,
                details=msgspec.json.encode(action.details, order="sorted").decode(),
                mac=entry.mac,
            )
        )
        return entry

    def tell(self, entry: Entry) -> None:
        """Write the head of the chain to the process' own log, which whoever cuts the table short does not have."""
        logger.info(
            "audit log entry %d, mac %s: %s %s %s",
            entry.sequence,
            entry.mac,
            entry.action.actor,
            entry.action.action,
            entry.action.subject,
        )

    async def entries(self, *, after: int = 0) -> AsyncIterator[Entry]:
        """In order, those after number `after`."""
        while True:
            async with self._database.read() as connection:
                rows = (
                    await connection.execute(
                        select(audit_entries)
                        .where(audit_entries.c.sequence > after)
                        .order_by(audit_entries.c.sequence)
                        .limit(_PAGE)
                    )
                ).all()
            for row in rows:
                details = msgspec.json.decode(row.details, type=dict[str, object])
                action = Action(row.workspace, row.actor, row.action, row.subject, details)
                yield Entry(row.sequence, row.at_ms, action, row.mac)
            if len(rows) < _PAGE:
                return
            after = rows[-1].sequence
