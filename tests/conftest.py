"""What all tests share. The fixtures on the store, the clock and the provider are the package's own."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.journal.postgres import Postgres, binaries, running_postgres

_STARTS_PROCESSES = {"cli", "embedded", "sidecar"}


@pytest.hookimpl(tryfirst=True)  # pytest-xdist reads the marks in its own
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What runs in one process where pytest-xdist has several (`--dist loadgroup`): a file, and all that needs LiteLLM,
    which takes long to start. What starts processes of its own takes longest, and goes wherever there is room."""
    for item in items:
        if item.get_closest_marker("xdist_group"):
            continue
        room = item.path.parent.name
        if room in _STARTS_PROCESSES and not _shares_a_fixture(item):
            continue
        item.add_marker(pytest.mark.xdist_group("litellm" if room == "litellm" else str(item.path)))


def _shares_a_fixture(item: pytest.Item) -> bool:
    definitions: dict[str, list[Any]] = item._fixtureinfo.name2fixturedefs  # type: ignore[attr-defined]
    return any(fixture[-1].scope in ("class", "module") for fixture in definitions.values())


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
