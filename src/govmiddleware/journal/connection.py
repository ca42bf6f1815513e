"""SQLAlchemy's engines in the event loop, as `sqlalchemy.ext.asyncio` drives them, without the ORM that it imports: 6.5 MB
of each process, and a tenth of a second of its start."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any, TypeAlias, TypeVar

from sqlalchemy import Connection, CursorResult, Engine, Executable
from sqlalchemy.engine import Dialect
from sqlalchemy.util import greenlet_spawn

T = TypeVar("T")
Values = Mapping[str, Any]
Found: TypeAlias = "CursorResult[*tuple[Any, ...]]"


class AsyncConnection:
    """A connection in a transaction. Results are read whole: they can be gone through without waiting."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @property
    def dialect(self) -> Dialect:
        return self._connection.dialect

    async def execute(self, statement: Executable, values: Values | Sequence[Values] | None = None) -> Found:
        return await greenlet_spawn(self._connection.execute, statement, values)

    async def exec_driver_sql(self, sql: str, values: tuple[Any, ...] | None = None) -> Found:
        return await greenlet_spawn(self._connection.exec_driver_sql, sql, values)

    async def scalar(self, statement: Executable) -> Any:
        return (await self.execute(statement)).scalar()

    async def run_sync(self, work: Callable[[Connection], T]) -> T:
        """What `work` does with SQLAlchemy's own connection, which it must not wait for."""
        return await greenlet_spawn(work, self._connection)

    def driver_connection(self) -> Any:
        """The driver's."""
        return self._connection.connection.driver_connection


@asynccontextmanager
async def transaction(engine: Engine, **options: Any) -> AsyncIterator[AsyncConnection]:
    """A transaction of an engine with an asynchronous driver, committed at the end, or rolled back by an exception.

    Args:
        options: as of `Connection.execution_options`.
    """
    async with AsyncExitStack() as stack:
        connection = await greenlet_spawn(engine.connect)
        stack.push_async_callback(_close, connection)
        await greenlet_spawn(connection.execution_options, **options)
        begun = await greenlet_spawn(connection.begin)
        stack.push_async_exit(partial(greenlet_spawn, begun.__exit__))
        yield AsyncConnection(connection)


async def dispose(engine: Engine) -> None:
    """Close its connections."""
    await greenlet_spawn(engine.dispose)


async def _close(connection: Connection) -> None:
    """Also where the caller is cancelled meanwhile."""
    await asyncio.shield(asyncio.create_task(greenlet_spawn(connection.close)))
