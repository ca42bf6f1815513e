"""Many rows in one statement."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Column, ColumnElement, Table, bindparam, cast, func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import CursorResult, Dialect
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.types import TypeDecorator

Row = dict[str, Any]


async def insert_missing(
    connection: AsyncConnection, table: Table, rows: Sequence[Row], returning: Sequence[Column[Any]] = ()
) -> CursorResult[Any]:
    """Insert `rows`, all with the same columns, but for those that are there already.

    To PostgreSQL they go as an array for each column: with a parameter for each value, psycopg would take longer to
    read the statement than the server to carry it out.

    Args:
        returning: of the rows that were inserted.
    """
    if connection.dialect.name == "sqlite":
        some = sqlite.insert(table).on_conflict_do_nothing()
        return await connection.execute(some.returning(*returning) if returning else some, list(rows))
    names = list(rows[0])
    arrays = [_array(table.c[name], [row[name] for row in rows], connection.dialect) for name in names]
    values = select(func.unnest(*arrays).table_valued(*names).render_derived())
    all_at_once = postgresql.insert(table).from_select(names, values).on_conflict_do_nothing()
    return await connection.execute(all_at_once.returning(*returning) if returning else all_at_once)


def _array(column: Column[Any], values: Sequence[Any], dialect: Dialect) -> ColumnElement[Any]:
    """The values as the column has them: SQLAlchemy's arrays leave out what a TypeDecorator does."""
    kind, written = column.type, values
    if isinstance(kind, TypeDecorator):
        written, kind = [kind.process_bind_param(value, dialect) for value in values], kind.impl_instance
    return cast(bindparam(f"all_{column.name}", written, unique=True), postgresql.ARRAY(kind))
