"""The asynchronous driver for SQLite, of which a connection may be ended at any time, and twice."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from typing import Any, TypeVar

import aiosqlite

T = TypeVar("T")

_CHUNK = 64
"""aiosqlite's own: how many rows an iteration fetches at once."""


class _Connection(aiosqlite.Connection):
    """SQLAlchemy closes a connection whose caller is cancelled, and stops it where the caller is cancelled once more.
    aiosqlite 0.22 has the thread of a connection end at the first stop, and then waits for ever for the second: the
    event loop that waits for its last tasks never ends.

    And what was written is rolled back before the connection is closed: SQLite keeps a closed connection, and its
    lock, for as long as a cursor of it is kept, as the traceback of the cancellation may (`sqlite3_close_v2`)."""

    _is_stopping = False
    _stopping: asyncio.Future[Any] | None = None

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """All of it in the connection's thread, without a change of threads in between."""
        found: T = await self._execute(work, self._conn)  # type: ignore[no-untyped-call]
        return found

    def stop(self) -> asyncio.Future[Any] | None:
        if not self._is_stopping:
            self._is_stopping = True
            self._roll_back()
            self._stopping = super().stop()
        return self._stopping

    async def close(self) -> None:
        self._roll_back()
        await super().close()

    def _roll_back(self) -> None:
        if self._connection is not None:
            self._tx.put_nowait((None, self._connection.rollback))


def connect(database: str, **options: Any) -> aiosqlite.Connection:
    """As `aiosqlite.connect`, in a thread that keeps no process from ending."""
    connection = _Connection(lambda: sqlite3.connect(database, **options), _CHUNK)
    thread: Any = getattr(connection, "_thread", connection)  # before 0.22 it is one itself
    thread.daemon = True
    return connection
