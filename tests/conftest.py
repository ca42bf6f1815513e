"""What all tests share. The fixtures on the store, the clock and the provider are the package's own."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.journal.postgres import Postgres, binaries, running_postgres


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A server for this test session. Each test has tables of its own in it."""
    folder = binaries()
    if folder is None:
        pytest.skip("needs a PostgreSQL server: apt-get install postgresql")
    with running_postgres(folder) as server:
        yield server


@pytest.fixture(autouse=True)
def own_data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each test's store is empty at first, and so must be the journal that remembers stores."""
    monkeypatch.setenv("GOV_DATA_DIR", str(tmp_path / "data"))


@pytest.fixture
def nothing_around(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No environment and no configuration file but the test's own."""
    for name in os.environ:
        if name.upper().startswith("GOV_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def written(tmp_path: Path) -> Callable[[str], Path]:
    """Writes a configuration file."""

    def write(text: str) -> Path:
        file = tmp_path / "written.toml"
        file.write_text(text)
        return file

    return write
