"""The port `core.backfill.MissedUse` on SQL."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any

from sqlalchemy import ColumnElement, Select, exists, func, literal, select, true
from sqlalchemy.sql.selectable import FromClause

from govmiddleware.core.backfill import BACKFILL, Kind, Missed
from govmiddleware.core.journal import SettledHold
from govmiddleware.core.limits import Meter
from govmiddleware.core.scopes import ANONYMOUS, DEPLOYMENT_WORKSPACE, PAIR, TAG, Scope, counts_by_model
from govmiddleware.core.windows import ResettingWindow, SlidingWindow
from govmiddleware.journal.database import Database
from govmiddleware.journal.history import drained_to
from govmiddleware.journal.tables import Name, counters, holds, records, tags

_VALUES: dict[str, ColumnElement[Any]] = {
    Scope.WORKSPACE: records.c.workspace,
    Scope.API_TOKEN: records.c.api_token,
    Scope.USER: records.c.user,
    Scope.SESSION: records.c.session,
    Scope.AGENT: records.c.agent,
    Scope.MODEL: records.c.model_requested,
    Scope.PROVIDER: records.c.provider,
    Scope.DEPLOYMENT: literal(str(Scope.DEPLOYMENT)),
}
_AMOUNTS: dict[Meter, ColumnElement[int]] = {
    Meter.REQUESTS: records.c.requests,
    Meter.INPUT_TOKENS: records.c.input_tokens,
    Meter.OUTPUT_TOKENS: records.c.output_tokens,
    Meter.TOTAL_TOKENS: records.c.input_tokens + records.c.output_tokens,
    Meter.COST_USD: records.c.cost,
}


class SqlMissedUse:
    """Finds, among the records, those that do not hold a counter."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def missed(
        self,
        workspace: str,
        kind: Kind,
        *,
        now_ms: int,
        but: Sequence[str] = (),
        before_ms: int | None = None,
    ) -> Missed:
        first = kind.window.first_bucket(now_ms)
        async with self._database.read() as connection:
            to = await drained_to(connection, workspace)
            unheld = await connection.execute(_unheld(workspace, kind, now_ms, but, before_ms))
            backfilled = await connection.execute(_backfilled(workspace, kind, first))
            return Missed(
                {(value, int(bucket)): int(amount) for value, bucket, amount in unheld},
                [SettledHold(name, int(bucket), int(amount)) for name, bucket, amount in backfilled],
                to,
            )


def _unheld(
    workspace: str, kind: Kind, now_ms: int, but: Sequence[str], before_ms: int | None
) -> Select[Any]:
    source, value = _value(kind.scope)
    since, until, bucket = _in_window(kind, now_ms)
    is_wide = workspace == DEPLOYMENT_WORKSPACE
    calls = (
        select(value.label("value"), bucket.label("bucket"), _AMOUNTS[kind.meter].label("amount"))
        .select_from(source)
        .where(
            records.c.workspace != workspace if is_wide else records.c.workspace == workspace,
            records.c.time_ms >= since,
            true() if until is None else records.c.time_ms < until,
            true() if before_ms is None else records.c.time_ms < before_ms,
            records.c.kind.in_(("outcome", "correction")),
            value.is_not(None) if kind.value is None else value == kind.value,
            ~_is_held(workspace, literal(kind.prefix) + value, is_wide=is_wide),
        )
    )
    if but:
        calls = calls.where(
            records.c.identity.not_in(
                [f"{what}:{each}" for each in but for what in ("outcome", "correction")]
            )
        )
    if kind.meter is Meter.REQUESTS and not counts_by_model(kind.scope):
        calls = calls.where(~records.c.is_inner)  # its parent counts for it
    if kind.is_shadow:
        calls = calls.where(records.c.would_refuse.is_(None))  # what a dry run refuses, it does not count
    found = calls.subquery()
    return select(found.c.value, found.c.bucket, func.sum(found.c.amount)).group_by(
        found.c.value, found.c.bucket
    )


def _is_held(workspace: str, name: ColumnElement[str], *, is_wide: bool) -> ColumnElement[bool]:
    """Whether the record holds the counter of this name; for the whole deployment, the one that stands for it does."""
    held = exists().where(
        counters.c.workspace == workspace, counters.c.name == name, holds.c.counter == counters.c.id
    )
    if not is_wide:
        return held.where(holds.c.record == records.c.id)
    stands_for = records.alias()
    return held.where(
        stands_for.c.workspace == workspace,
        stands_for.c.identity == records.c.identity,
        holds.c.record == stands_for.c.id,
    )


def _backfilled(workspace: str, kind: Kind, first_bucket: int) -> Select[Any]:
    return (
        select(counters.c.name, holds.c.bucket, holds.c.amount)
        .select_from(records.join(holds, holds.c.record == records.c.id).join(counters))
        .where(
            records.c.workspace == workspace,
            records.c.kind == "adjustment",
            records.c.outcome == BACKFILL,
            func.substr(counters.c.name, 1, len(kind.prefix)) == kind.prefix,
            holds.c.bucket >= first_bucket,
        )
    )


def _in_window(kind: Kind, now_ms: int) -> tuple[int, int | None, ColumnElement[int]]:
    """The time of the current window, and the bucket of a record in it."""
    first = kind.window.first_bucket(now_ms)
    match kind.window:
        case SlidingWindow() as window:
            return first * window.bucket_ms, None, records.c.time_ms // window.bucket_ms
        case ResettingWindow() as window:
            return first, window.bounds(now_ms)[1], literal(first)
        case _:
            return 0, None, literal(first)


def _value(scope: str) -> tuple[FromClause, ColumnElement[Any]]:
    """Where records have the value of a scope, as `core.scopes.value_in` has it; NULL where they have none."""
    source: FromClause = records
    values: list[ColumnElement[Any]] = []
    for part in scope.split(PAIR):
        if part.startswith(TAG):
            tag = tags.alias()
            source = source.outerjoin(
                tag, (tag.c.record == records.c.id) & (tag.c.name == part.removeprefix(TAG))
            )
            values.append(func.coalesce(tag.c.value, ANONYMOUS))
        else:
            values.append(_VALUES[part])
    if len(values) == 1:
        return source, values[0]
    escaped = [_replaced(_replaced(value, "%", "%25"), "|", "%7C") for value in values]
    return source, reduce(lambda one, other: one + "|" + other, escaped)


def _replaced(value: ColumnElement[Any], old: str, new: str) -> ColumnElement[Any]:
    return func.replace(value, old, new, type_=Name())  # a name still, which is not kept as it is written
