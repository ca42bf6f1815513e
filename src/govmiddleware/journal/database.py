"""The SQL database: its connections, and the one border where its exceptions become ours."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, func, select
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from govmiddleware.errors import ConfigurationError, HistoryUnavailable
from govmiddleware.journal import sqlite_driver
from govmiddleware.journal.connection import AsyncConnection, dispose, transaction
from govmiddleware.journal.tables import SCHEMA_VERSION, metadata, schema

_READ_SECONDS = 30.0
"""For one transaction that reads: reports look at much."""
_WRITE_SECONDS = 10.0
_CONNECT_SECONDS = 5
_SQLITE_BUSY_MS = 5000
"""How long one waits who writes for another who does."""

_PING_SECONDS = 3.0
_SCHEMA_LOCK = 0x676F766A  # any number that others in the database do not lock
_DRIVERS = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+psycopg_async"}


def read_journal_url(url: str) -> URL:
    """The URL with the driver that we use for it. Raises ConfigurationError."""
    try:
        found = make_url(url)
    except (ArgumentError, ValueError):
        found = None
    if (
        found is None
        or found.drivername not in _DRIVERS
        or (found.drivername == "sqlite" and not found.database)
    ):
        shown = "…" if found is None else found.render_as_string()
        raise ConfigurationError(
            "journal_url", shown, "sqlite:///PATH or postgresql://USER:PASSWORD@HOST/DATABASE"
        )
    if found.drivername == "postgresql" and find_spec("psycopg") is None:
        install = "the driver that pip install 'govmiddleware[postgres]' brings"
        raise ConfigurationError("journal_url", found.render_as_string(), install)
    return found.set(drivername=_DRIVERS[found.drivername])


class Database:
    """Connects at its first use, and then makes the tables that are missing.

    Args:
        url: `journal_url`. Raises ConfigurationError.
    """

    def __init__(self, url: str) -> None:
        self._url = read_journal_url(url)
        self._engine: Engine | None = None
        self._opening = asyncio.Lock()

    @property
    def url(self) -> str:
        """For people: without the password."""
        return self._url.set(drivername=self._url.get_backend_name()).render_as_string()

    @property
    def is_sqlite(self) -> bool:
        return self._url.get_backend_name() == "sqlite"

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that sees one state of the database. Raises HistoryUnavailable."""
        one_state: dict[str, Any] = {} if self.is_sqlite else {"isolation_level": "REPEATABLE READ"}
        async with self._transaction(_READ_SECONDS, gov_writes=False, **one_state) as connection:
            yield connection

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that is committed at the end, or rolled back by an exception. Raises HistoryUnavailable."""
        async with self._transaction(_WRITE_SECONDS, gov_writes=True) as connection:
            yield connection

    async def ping(self) -> None:
        """Whether it takes writes now. Raises HistoryUnavailable."""
        async with self._transaction(_PING_SECONDS, gov_writes=True):
            pass

    async def close(self) -> None:
        engine, self._engine = self._engine, None
        if engine is not None:
            await dispose(engine)

    @asynccontextmanager
    async def _transaction(self, patience: float, **options: Any) -> AsyncIterator[AsyncConnection]:
        try:
            async with asyncio.timeout(patience):
                engine = await self._open()
                async with transaction(engine, **options) as connection:
                    yield connection
        except TimeoutError as error:
            raise HistoryUnavailable(f"no answer within {patience:.0f} s") from error
        except (SQLAlchemyError, sqlite3.Error, OSError) as error:
            cause = getattr(error, "orig", None) or error
            raise HistoryUnavailable(f"{type(cause).__name__}: {cause}".rstrip(": ")) from error

    async def _open(self) -> Engine:
        async with self._opening:
            if self._engine is None:
                if self.is_sqlite:
                    await asyncio.to_thread(self._make_sqlite)
                    engine = create_engine(
                        self._url,
                        connect_args={"async_creator_fn": sqlite_driver.connect},
                        pool_use_lifo=True,  # or each connection in turn would prepare and keep every statement
                    )
                    _behave(engine)
                    self._engine = engine
                else:
                    self._engine = await self._opened_postgres()
            return self._engine

    def _make_sqlite(self) -> None:
        """In one thread: the asynchronous driver changes threads several times for each of the many statements."""
        assert self._url.database is not None
        Path(self._url.database).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        engine = create_engine(self._url.set(drivername="sqlite"), poolclass=NullPool)
        _behave(engine)
        with engine.connect().execution_options(gov_writes=True) as connection, connection.begin():
            _make_tables(connection)

    async def _opened_postgres(self) -> Engine:
        engine = create_engine(
            self._url, connect_args={"connect_timeout": _CONNECT_SECONDS}, pool_pre_ping=True
        )
        try:
            async with transaction(engine) as connection:
                # One at a time, as SQLite has one writer anyway.
                await connection.execute(select(func.pg_advisory_xact_lock(_SCHEMA_LOCK)))
                await connection.run_sync(_make_tables)
        except BaseException:
            await dispose(engine)
            raise
        return engine


def _make_tables(connection: Connection) -> None:
    """Those that are missing. Raises HistoryUnavailable where a newer version made them."""
    metadata.create_all(connection)
    version = connection.execute(select(schema.c.version)).scalar_one_or_none()
    if version is None:
        connection.execute(schema.insert().values(version=SCHEMA_VERSION))
    elif version != SCHEMA_VERSION:
        raise HistoryUnavailable(
            f"its tables are of version {version}, and this govmiddleware knows {SCHEMA_VERSION}: use the newer one"
        )


def _behave(sqlite: Engine) -> None:
    """Each of its connections and transactions as we need it."""
    event.listen(sqlite, "connect", _set_up_sqlite)
    event.listen(sqlite, "begin", _begin_sqlite)


def _set_up_sqlite(connection: Any, _: object) -> None:
    """Readers beside one writer (WAL), and each commit on the disk: the stream is trimmed after it."""
    connection.isolation_level = None  # or the driver begins transactions as it likes
    busy = f"busy_timeout = {_SQLITE_BUSY_MS}"
    for pragma in (
        "journal_mode = WAL",
        "synchronous = FULL",
        busy,
        "foreign_keys = ON",
        "cache_size = -512",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Any) -> None:
    """A write takes the lock at its start: one that asked for it later could not wait for its turn."""
    writes = connection.get_execution_options().get("gov_writes")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
