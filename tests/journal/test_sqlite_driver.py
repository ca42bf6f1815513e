"""A connection to SQLite whose caller is cancelled again and again."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest
from sqlalchemy import text

from govmiddleware.journal.database import Database
from govmiddleware.journal.sqlite_driver import connect


async def test_a_connection_that_is_stopped_while_it_closes_is_closed(tmp_path: Path) -> None:
    connection = await connect(str(tmp_path / "journal.db"))
    closing = asyncio.create_task(connection.close())
    await asyncio.sleep(0)
    connection.stop()
    async with asyncio.timeout(5):
        await closing


@pytest.mark.parametrize("turns", [1, 2, 3])
async def test_a_caller_that_is_cancelled_twice_leaves_nothing_that_waits(tmp_path: Path, turns: int) -> None:
    database = Database(f"sqlite:///{tmp_path / 'journal.db'}")
    await database.ping()
    before = asyncio.all_tasks()
    begun = threading.Event()

    async def read() -> None:
        async with database.read() as connection:
            begun.set()
            while True:
                await connection.execute(text("SELECT 1"))

    reading = asyncio.create_task(read())
    while not begun.is_set():
        await asyncio.sleep(0)
    reading.cancel()
    for _ in range(turns):
        await asyncio.sleep(0)
    reading.cancel()
    await asyncio.wait({reading})
    if left := asyncio.all_tasks() - before:
        _, waiting = await asyncio.wait(left, timeout=3)
        assert not waiting
    await database.close()
