"""A history on a database of the test's own, of either kind."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from govmiddleware.journal.database import Database
from govmiddleware.journal.history import SqlHistory
from tests.journal.postgres import Postgres

_schemas = itertools.count()


@pytest.fixture(params=["sqlite", "postgresql"])
def journal_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'journal.sqlite3'}"
    server: Postgres = request.getfixturevalue("postgres")
    return server.url(f"test_{next(_schemas)}")


@pytest.fixture
async def database(journal_url: str) -> AsyncIterator[Database]:
    database = Database(journal_url)
    yield database
    await database.close()


@pytest.fixture
def history(database: Database) -> SqlHistory:
    return SqlHistory(database)
