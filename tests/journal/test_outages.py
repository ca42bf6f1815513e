"""A database that is killed, hangs, is locked or is of another version: records wait, and then none is missing."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest

from govmiddleware.errors import HistoryUnavailable
from govmiddleware.journal import database as database_module
from govmiddleware.journal.database import Database
from govmiddleware.journal.history import SqlHistory
from govmiddleware.services import drain
from tests.journal.draining import COUNTERS, Draining
from tests.journal.postgres import Postgres


class Traffic:
    """Calls that end one after the other, and a drainer that works all the time, until the block is left; then
    everything is drained."""

    def __init__(self, worker: Draining) -> None:
        self.worker = worker
        self.names: list[str] = []
        self._over = False

    async def __aenter__(self) -> Traffic:
        self._tasks = [asyncio.create_task(self._call()), asyncio.create_task(self._drain())]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._over = True
        await asyncio.gather(*self._tasks)
        await self.worker.drainer.drain()
        assert await self.worker.names() == self.names
        assert len(await self.worker.drained()) == len(self.names)
        sums, _ = await self.worker.history.sums("acme", 0)
        assert sum(sums.values()) == len(COUNTERS) * 3 * len(self.names)

    async def _call(self) -> None:
        while not self._over:
            self.names.append(str(len(self.names)))
            await self.worker.settle(self.names[-1])
            await asyncio.sleep(0.001)

    async def _drain(self) -> None:
        while not self._over:
            await self.worker.drainer.drain()
            await asyncio.sleep(0.01)

    async def goes_on(self, calls: int = 20) -> None:
        wanted = len(self.names) + calls
        await _until(lambda: len(self.names) >= wanted)

    async def is_known_to_be_down(self) -> None:
        await _until(lambda: self.worker.metric("database_down") == 1)
        assert self.worker.drainer.warnings()

    async def is_up(self) -> None:
        await _until(lambda: self.worker.metric("database_down") == 0 and not self.worker.drainer.warnings())


async def _until(condition: object) -> None:
    assert callable(condition)
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.01)


@pytest.fixture(autouse=True)
def short_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database_module, "_PING_SECONDS", 0.5)
    monkeypatch.setattr(database_module, "_WRITE_SECONDS", 1.0)
    monkeypatch.setattr(database_module, "_SQLITE_BUSY_MS", 500)
    monkeypatch.setattr(drain, "_KEEP_SECONDS", 5.0)


@pytest.fixture
def short_cancel(monkeypatch: pytest.MonkeyPatch) -> None:
    """psycopg gives the server 5 s to take a cancellation, and 5 s to follow it."""
    cancel_safe, wait_async = psycopg.AsyncConnection.cancel_safe, psycopg.waiting.wait_async

    async def cancelled(self: Any, *, timeout: float) -> None:
        await cancel_safe(self, timeout=min(timeout, 0.2))

    async def waited(gen: Any, fileno: int, interval: float = 0.0, timeout: float | None = None) -> Any:
        return await wait_async(gen, fileno, interval, timeout and min(timeout, 0.2))

    monkeypatch.setattr(psycopg.AsyncConnection, "cancel_safe", cancelled)
    monkeypatch.setattr(psycopg.waiting, "wait_async", waited)


@pytest.fixture
async def on_postgres(gov_store: str, postgres: Postgres, tmp_path: Path) -> AsyncIterator[Draining]:
    before = postgres.connections()
    database = Database(postgres.url(tmp_path.name))
    async with Draining(gov_store, SqlHistory(database)) as worker:
        yield worker
    await database.close()
    await _until(lambda: postgres.connections() <= before)


async def test_a_server_that_was_killed_and_started_again(on_postgres: Draining, postgres: Postgres) -> None:
    async with Traffic(on_postgres) as traffic:
        await traffic.goes_on()
        postgres.kill()
        await traffic.is_known_to_be_down()
        await traffic.goes_on()
        await asyncio.to_thread(postgres.start)
        await traffic.is_up()
        await traffic.goes_on()


@pytest.mark.usefixtures("short_cancel")
async def test_a_server_that_hangs_for_a_while(on_postgres: Draining, postgres: Postgres) -> None:
    async with Traffic(on_postgres) as traffic:
        await traffic.goes_on()
        try:
            postgres.pause()
            await traffic.is_known_to_be_down()
            await traffic.goes_on()
        finally:
            postgres.resume()
        await traffic.is_up()


async def test_a_file_that_another_program_locks(gov_store: str, tmp_path: Path) -> None:
    file = tmp_path / "journal.sqlite3"
    database = Database(f"sqlite:///{file}")
    async with Draining(gov_store, SqlHistory(database)) as worker, Traffic(worker) as traffic:
        await traffic.goes_on()
        await traffic.is_up()
        with closing(sqlite3.connect(file, isolation_level=None, timeout=0)) as other:
            await _locks(other)
            await traffic.is_known_to_be_down()
            await traffic.goes_on()
            other.execute("ROLLBACK")
        await traffic.is_up()
    await database.close()


async def _locks(connection: sqlite3.Connection) -> None:
    """Takes the lock once the drainer, which shares our loop, has let go of it."""
    async with asyncio.timeout(30):
        while True:
            with suppress(sqlite3.OperationalError):
                connection.execute("BEGIN IMMEDIATE")
                return
            await asyncio.sleep(0.001)


async def test_a_disk_that_is_full(gov_store: str, tmp_path: Path) -> None:
    file = tmp_path / "journal.sqlite3"
    database = Database(f"sqlite:///{file}")
    async with Draining(gov_store, SqlHistory(database)) as worker:
        await worker.settle(*map(str, range(30)))
        await worker.drainer.drain()
        async with database.read() as connection:  # of the pool: it is the one that is used next
            (pages,) = (await connection.exec_driver_sql("PRAGMA page_count")).one()
            await connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
        await worker.settle(*map(str, range(30, 230)))
        await worker.drainer.drain()
        assert worker.drainer.report is not None
        assert "full" in worker.drainer.report.error
        assert worker.drainer.report.waiting == 200
        async with database.read() as connection:
            await connection.exec_driver_sql("PRAGMA max_page_count = 1000000")
        await worker.drainer.drain()
        assert await worker.names() == [str(number) for number in range(230)]
        assert len(await worker.drained()) == 230
    await database.close()


async def test_tables_of_a_newer_version_are_left_alone(database: Database) -> None:
    history = SqlHistory(database)
    await history.begin_epoch("acme", "e")
    async with database.write() as connection:
        await connection.exec_driver_sql("UPDATE gov_schema SET version = 99")
    newer = Database(
        database._url.render_as_string(hide_password=False)
        .replace("+aiosqlite", "")
        .replace("+psycopg_async", "")
    )
    with pytest.raises(HistoryUnavailable, match="of version 99, and this govmiddleware knows 1"):
        await SqlHistory(newer).workspaces()
    await newer.close()


async def test_many_who_open_an_empty_database_at_once_make_one_set_of_tables(journal_url: str) -> None:
    databases = [Database(journal_url) for _ in range(5)]
    await asyncio.gather(*(SqlHistory(each).begin_epoch("acme", "e") for each in databases))
    for each in databases:
        assert await SqlHistory(each).workspaces() == ["acme"]
        await each.close()
