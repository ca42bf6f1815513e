"""What all tests share. The fixtures on the store, the clock and the provider are the package's own."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling
from xdist.scheduler.protocol import Scheduling

from govmiddleware.ledger import connection
from tests.journal.postgres import Postgres, binaries, running_postgres

_FREE_ROOMS = ("tests/cli/", "tests/sidecar/")
"""Their tests start processes of their own and take longest."""
_SHARES_PROCESSES = re.compile(
    r"test_(bedrock_sdk|genai_sdk|http_conformance|large_bodies|pages|upstreams)\.py"
)


class _Schedule(LoadScopeScheduling):
    """Which tests go to the same process where pytest-xdist has several: those of a file, and all that need LiteLLM,
    which takes long to start. What starts processes for one test alone goes wherever there is room."""

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0]
        if path.startswith("tests/litellm/"):
            return "litellm"
        if path.startswith(_FREE_ROOMS) and not _SHARES_PROCESSES.search(path):
            return nodeid
        return path


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Scheduling:
    return _Schedule(config, log)


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
def patient(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """On cores that other tests keep busy a store that answers late is not a lost one. The tests of lost stores are
    marked `impatient`: they keep the bounds of production."""
    if "impatient" not in request.keywords:
        monkeypatch.setattr(connection, "PATIENCE_SECONDS", 10.0)
        monkeypatch.setattr(connection, "_NODE_SECONDS", 10.0)


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
