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


async def test_a_writer_that_is_closed_with_rows_unread_lets_the_next_one_write(tmp_path: Path) -> None:
    path = str(tmp_path / "journal.db")
    connection = await connect(path, isolation_level=None)
    await connection.execute("CREATE TABLE kept (x)")
    await connection.execute("BEGIN IMMEDIATE")
    unread = await connection.execute("INSERT INTO kept VALUES (1), (2) RETURNING x")
    await connection.close()
    other = await connect(path, isolation_level=None, timeout=0)
    await other.execute("BEGIN IMMEDIATE")
    assert list(await other.execute_fetchall("SELECT x FROM kept")) == []
    await other.close()
    del unread  # a cancelled task's traceback keeps it as long
