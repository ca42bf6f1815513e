"""The copy of the store's registries on SQL: the port `core.registries.RegistryCopy`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import delete, select

from govmiddleware.core.audit_log import Action
from govmiddleware.core.registries import Copied, Registry
from govmiddleware.journal.audit_log import SqlAuditLog
from govmiddleware.journal.bulk import insert_missing
from govmiddleware.journal.database import Database
from govmiddleware.journal.tables import registry as rows

_COMPLETE = {"registry": "complete", "key": "", "value": ""}


class SqlRegistryCopy:
    def __init__(self, database: Database, audit_log: SqlAuditLog) -> None:
        self._database = database
        self._audit_log = audit_log

    async def put(self, copied: Copied, action: Action) -> None:
        await self._replace(copied[0], copied[1], [_row(copied)], action)

    async def delete(self, registry: Registry, key: str, action: Action) -> None:
        await self._replace(registry, key, [], action)

    async def _replace(
        self, registry: Registry, key: str, new: Sequence[dict[str, str]], action: Action
    ) -> None:
        async with self._database.write() as connection:
            # First, for it lets one change after the other pass.
            entry = await self._audit_log.append_in(connection, action)
            await connection.execute(delete(rows).where(rows.c.registry == registry.value, rows.c.key == key))
            if new:
                await insert_missing(connection, rows, new)
        await self._audit_log.tell(entry)

    async def read(self, registry: Registry) -> Mapping[str, bytes]:
        async with self._database.read() as connection:
            found = await connection.execute(
                select(rows.c.key, rows.c.value).where(rows.c.registry == registry.value).order_by(rows.c.key)
            )
            return {row.key: row.value.encode() for row in found}

    async def is_complete(self) -> bool:
        async with self._database.read() as connection:
            is_there = select(rows.c.key).where(rows.c.registry == _COMPLETE["registry"])
            return (await connection.execute(is_there)).first() is not None

    async def complete(self, copied: Sequence[Copied]) -> None:
        async with self._database.write() as connection:
            await insert_missing(connection, rows, [*map(_row, copied), _COMPLETE])


def _row(copied: Copied) -> dict[str, str]:
    registry, key, value = copied
    return {"registry": registry.value, "key": key, "value": value.decode(errors="replace")}
