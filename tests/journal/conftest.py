"""A history on a database of the test's own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from govmiddleware.journal.database import Database
from govmiddleware.journal.history import SqlHistory


@pytest.fixture
def journal_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'journal.sqlite3'}"


@pytest.fixture
async def database(journal_url: str) -> AsyncIterator[Database]:
    database = Database(journal_url)
    yield database
    await database.close()


@pytest.fixture
def history(database: Database) -> SqlHistory:
    return SqlHistory(database)
