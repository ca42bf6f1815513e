"""Many rows in one statement."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

import msgspec
from sqlalchemy import Column, Table
from sqlalchemy.dialects import sqlite
from sqlalchemy.engine import Dialect

from govmiddleware.journal.connection import AsyncConnection

if TYPE_CHECKING:
    from sqlalchemy.dialects import postgresql

Row = dict[str, Any]
GivenRow = tuple[Any, ...]

_MOST_VALUES = 2048
"""Of one statement: far below the number of parameters that SQLite takes."""


def insert_into(connection: AsyncConnection, table: Table) -> sqlite.Insert | postgresql.Insert:
    """An INSERT that can be told what to do about rows that are there."""
    if connection.dialect.name == "sqlite":
        return sqlite.insert(table)
    from sqlalchemy.dialects import postgresql  # late, for its memory

    return postgresql.insert(table)


async def insert_missing(connection: AsyncConnection, table: Table, rows: Sequence[Row]) -> None:
    """Insert `rows`, all with the same columns, but for those that are there already."""
    await connection.execute(insert_into(connection, table).on_conflict_do_nothing(), list(rows))


class BulkInsert(msgspec.Struct, frozen=True):
    """A statement that inserts what it makes of given rows. SQLAlchemy would take several times as long to write
    such statements, and to look at each value, as the database to carry them out.

    Attributes:
        given: the columns of the rows. Values go to the driver as they are: names as `tables.kept` has them.
        into: the table and its columns.
        values: a SELECT of these `FROM given`, with a WHERE: without one, SQLite reads ON CONFLICT as a join.
    """

    given: Mapping[str, Column[Any]]
    into: str
    values: str

    def on_sqlite(self, count: int) -> str:
        """For `count` rows, whose values are one flat sequence of parameters."""
        row = f"({', '.join('?' * len(self.given))})"
        return self._sql(f"VALUES {', '.join([row] * count)}")

    def on_postgresql(self, dialect: Dialect) -> str:
        """For any number of rows: a JSON array for each column. To write its own arrays, or a parameter for each value,
        psycopg takes longer than the server to carry the statement out."""
        names = ", ".join(f'"{name}"' for name in self.given)
        values = ", ".join(f'"{name}"::{column.type.compile(dialect)}' for name, column in self.given.items())
        arrays = ", ".join(["json_array_elements_text(%s::json)"] * len(self.given))
        return self._sql(f"SELECT {values} FROM ROWS FROM ({arrays}) AS texts({names})")

    def parts(self, rows: Iterable[GivenRow]) -> Iterator[Sequence[GivenRow]]:
        """Of few different lengths, so that the driver has their statements prepared."""
        rest = iter(rows)
        most = 1 << (_MOST_VALUES // len(self.given)).bit_length() - 1
        while some := list(islice(rest, most)):
            while some:
                size = 1 << len(some).bit_length() - 1
                yield some[:size]
                del some[:size]

    def _sql(self, source: str) -> str:
        names = ", ".join(f'"{name}"' for name in self.given)
        return (
            f"INSERT INTO {self.into} WITH given({names}) AS ({source}) {self.values} ON CONFLICT DO NOTHING"
        )


def plain(*columns: Column[Any]) -> BulkInsert:
    """Rows of one table, with these of its columns."""
    names = ", ".join(f'"{column.name}"' for column in columns)
    given = {column.name: column for column in columns}
    return BulkInsert(given, f"{columns[0].table} ({names})", "SELECT * FROM given WHERE true")


Work = Iterable[tuple[BulkInsert, Iterable[GivenRow]]]
"""What is to be inserted, in this order."""


async def insert_all(connection: AsyncConnection, work: Work) -> list[int]:
    """In a transaction of the caller's; of each statement, how many rows were not there before.

    SQLite is given all at once, in its own thread. With a change of threads for each statement, or a step for each
    row, it and the event loop would take the interpreter from each other thousands of times a second.
    """
    if connection.dialect.name == "sqlite":
        found: list[int] = await connection.driver_connection().run(partial(_insert_all, work))
        return found
    inserted = []
    for insert, rows in work:
        sql, count = insert.on_postgresql(connection.dialect), 0
        for some in insert.parts(rows):
            arrays = tuple(msgspec.json.encode(values).decode() for values in zip(*some, strict=True))
            count += (await connection.exec_driver_sql(sql, arrays)).rowcount
        inserted.append(count)
    return inserted


def _insert_all(work: Work, connection: sqlite3.Connection) -> list[int]:
    inserted = []
    for insert, rows in work:
        count = 0
        for some in insert.parts(rows):
            values = list(chain.from_iterable(some))
            count += connection.execute(insert.on_sqlite(len(some)), values).rowcount
        inserted.append(count)
    return inserted
