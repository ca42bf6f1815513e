"""Overrides on SQL: the port `core.overrides.OverrideStore`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from sqlalchemy import Row, Select, and_, func, or_, select, update

from govmiddleware.core.audit_log import Action
from govmiddleware.core.limits import Meter
from govmiddleware.core.overrides import Approval, Change, Override, OverrideState, Person
from govmiddleware.core.scopes import DEPLOYMENT_WORKSPACE
from govmiddleware.journal.audit_log import SqlAuditLog
from govmiddleware.journal.bulk import insert_into
from govmiddleware.journal.connection import AsyncConnection
from govmiddleware.journal.database import Database
from govmiddleware.journal.tables import approvals, overrides

_MOST = 1000
_NEWEST_FIRST = (overrides.c.requested_at_ms.desc(), overrides.c.id.desc())


class SqlOverrides:
    def __init__(self, database: Database, audit_log: SqlAuditLog) -> None:
        self._database = database
        self._audit_log = audit_log

    async def add(self, override: Override, action: Action) -> bool:
        async with self._database.write() as connection:
            insert = insert_into(connection, overrides).on_conflict_do_nothing().returning(overrides.c.id)
            if (await connection.execute(insert, _row(override))).first() is None:
                return False
            entry = await self._audit_log.append_in(connection, action)
        await self._audit_log.tell(entry)
        return True

    async def change(self, override_id: str, change: Change) -> Override | None:
        async with self._database.write() as connection:
            # Locked on PostgreSQL; SQLite has one writer at a time.
            query = select(overrides).where(overrides.c.id == override_id).with_for_update()
            found = await _read(connection, query)
            if not found:
                return None
            changed, action = change(found[0])
            await connection.execute(
                update(overrides)
                .where(overrides.c.id == override_id)
                .values(state=changed.state.value, until_ms=changed.until_ms)
            )
            for approval in changed.approvals[len(found[0].approvals) :]:
                await connection.execute(
                    approvals.insert().values(
                        override=override_id, name=approval.name, user=approval.user, at_ms=approval.at_ms
                    )
                )
            entry = await self._audit_log.append_in(connection, action)
        await self._audit_log.tell(entry)
        return changed

    async def find(self, *ids: str) -> Sequence[Override]:
        return await self._all(select(overrides).where(overrides.c.id.in_(ids)))

    async def undecided(self, override: Override) -> Override | None:
        row = _row(override)
        same = ("workspace", "limit", "value", "requester_workspace", "requester", "state")
        found = await self._all(
            select(overrides).where(*(overrides.c[column] == row[column] for column in same))
        )
        return found[0] if found else None

    async def count_undecided(self, requester: str, workspace: str | None) -> int:
        query = (
            select(func.count())
            .select_from(overrides)
            .where(
                overrides.c.requester == requester,
                overrides.c.requester_workspace == (workspace or DEPLOYMENT_WORKSPACE),
                overrides.c.state == OverrideState.REQUESTED.value,
            )
        )
        async with self._database.read() as connection:
            return await connection.scalar(query) or 0

    async def list(
        self, *, state: OverrideState | None = None, limit: str | None = None, shown_to: Person | None = None
    ) -> Sequence[Override]:
        query = select(overrides).order_by(*_NEWEST_FIRST).limit(_MOST)
        if state is not None:
            query = query.where(overrides.c.state == state.value)
        if limit is not None:
            query = query.where(overrides.c.limit == limit)
        if shown_to is not None and shown_to.workspace is not None:
            is_own = and_(
                overrides.c.requester == shown_to.name,
                overrides.c.requester_workspace == shown_to.workspace,
            )
            is_theirs = overrides.c.workspace == shown_to.workspace
            query = query.where(or_(is_own, is_theirs) if shown_to.decides_in(shown_to.workspace) else is_own)
        return await self._all(query)

    async def approved(self) -> Sequence[Override]:
        return await self._all(select(overrides).where(overrides.c.state == OverrideState.APPROVED.value))

    async def overdue(self, now_ms: int) -> Sequence[str]:
        is_late = or_(
            and_(overrides.c.state == OverrideState.REQUESTED.value, overrides.c.decide_by_ms <= now_ms),
            and_(overrides.c.state == OverrideState.APPROVED.value, overrides.c.until_ms <= now_ms),
        )
        async with self._database.read() as connection:
            return list((await connection.execute(select(overrides.c.id).where(is_late))).scalars())

    async def _all(self, query: Select[Any]) -> Sequence[Override]:
        async with self._database.read() as connection:
            return await _read(connection, query)


async def _read(connection: AsyncConnection, query: Select[Any]) -> list[Override]:
    rows = (await connection.execute(query)).all()
    given: dict[str, list[Approval]] = defaultdict(list)
    found = await connection.execute(
        select(approvals)
        .where(approvals.c.override.in_([row.id for row in rows]))
        .order_by(approvals.c.at_ms, approvals.c.name)
    )
    for row in found:
        given[row.override].append(Approval(row.name, row.user, row.at_ms))
    return [_override(row, given[row.id]) for row in rows]


def _override(row: Row[Any], given: Sequence[Approval]) -> Override:
    is_admins = row.requester_workspace == DEPLOYMENT_WORKSPACE
    return Override(
        id=row.id,
        workspace=row.workspace,
        limit=row.limit,
        scope=row.scope,
        meter=Meter(row.meter),
        value=row.value,
        reason=row.reason,
        requester=row.requester,
        requester_workspace=None if is_admins else row.requester_workspace,
        requester_user=row.requester_user,
        for_user=row.for_user,
        requested_at_ms=row.requested_at_ms,
        seconds=row.seconds,
        decide_by_ms=row.decide_by_ms,
        approvals_required=row.approvals_required,
        amount=row.amount,
        factor=None if row.factor is None else Decimal(row.factor),
        approvals=tuple(given),
        state=OverrideState(row.state),
        until_ms=row.until_ms,
    )


def _row(override: Override) -> dict[str, object]:
    return {
        "id": override.id,
        "workspace": override.workspace,
        "limit": override.limit,
        "scope": override.scope,
        "meter": override.meter.value,
        "value": override.value,
        "reason": override.reason,
        "requester": override.requester,
        "requester_workspace": override.requester_workspace or DEPLOYMENT_WORKSPACE,
        "requester_user": override.requester_user,
        "for_user": override.for_user,
        "requested_at_ms": override.requested_at_ms,
        "seconds": override.seconds,
        "decide_by_ms": override.decide_by_ms,
        "approvals_required": override.approvals_required,
        "amount": override.amount,
        "factor": None if override.factor is None else str(override.factor),
        "state": override.state.value,
        "until_ms": override.until_ms,
    }
