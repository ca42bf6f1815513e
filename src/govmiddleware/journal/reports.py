"""The port `core.reports.Reports` on SQL: the database adds up, and hands out the sums."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Select, exists, false, func, literal, or_, select, true
from sqlalchemy.sql.selectable import FromClause

from govmiddleware.core.reports import PRICE_VERSION, SUMMED, Group, Span, Sums
from govmiddleware.core.scopes import TAG
from govmiddleware.journal.database import Database
from govmiddleware.journal.history import drained_to
from govmiddleware.journal.tables import counters, holds, records, tags

_COLUMNS = {
    "workspace": records.c.workspace,
    "api_token": records.c.api_token,
    "user": records.c.user,
    "session": records.c.session,
    "agent": records.c.agent,
    "provider": records.c.provider,
    "model": records.c.model_requested,
    PRICE_VERSION: records.c.price_version,
}
_STORED = tuple(name for name in SUMMED if name != "reserved")


class SqlReports:
    """Sums over the records, by the index `gov_record_usage`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def sums(self, workspace: str, by: Sequence[str], span: Span) -> tuple[dict[Group, Sums], str]:
        query = _sums_query(workspace, by, span)
        async with self._database.read() as connection:
            to = await drained_to(connection, workspace)
            found = await connection.execute(query)
            sums: dict[Group, Sums] = {}
            for number, *row in found:
                values, amounts = tuple(row[: len(by)]), row[len(by) :]
                sums[int(number), values] = Sums(*map(int, amounts))
            return sums, to

    async def counters_in_use(self, workspace: str, first_buckets: Mapping[str, int]) -> list[str]:
        counts = (
            (func.substr(counters.c.name, 1, len(prefix)) == prefix)
            & exists().where(holds.c.counter == counters.c.id, holds.c.bucket >= first)
            for prefix, first in first_buckets.items()
        )
        query = select(counters.c.name).where(counters.c.workspace == workspace, or_(false(), *counts))
        async with self._database.read() as connection:
            return list((await connection.execute(query)).scalars())


def _sums_query(workspace: str, by: Sequence[str], span: Span) -> Select[Any]:
    source: FromClause = records
    number = literal(0) if span.width is None else (records.c.time_ms - span.first) // span.width
    values: list[ColumnElement[Any]] = []
    groups: list[ColumnElement[Any]] = [] if span.width is None else [number]
    for dimension in by:
        if dimension.startswith(TAG):
            tag = tags.alias()
            source = source.outerjoin(
                tag, (tag.c.record == records.c.id) & (tag.c.name == dimension.removeprefix(TAG))
            )
            values.append(tag.c.value)
        else:
            values.append(_COLUMNS[dimension])
    return (
        select(number, *values, *(func.sum(records.c[name]) for name in _STORED))
        .select_from(source)
        .where(
            records.c.workspace == workspace,
            true() if span.since is None else records.c.time_ms >= span.since,
            true() if span.until is None else records.c.time_ms < span.until,
        )
        .group_by(*groups, *values)
        .having(func.count() > 0)
    )
