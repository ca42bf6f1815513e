"""The pytest plugin: `gov_store`, `gov_clock`, `gov_provider` and `make_governance`.

It is loaded wherever the package is installed, so everything else is imported when a fixture is used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from govmiddleware.app import Governance
    from govmiddleware.testing.clock import Clock
    from govmiddleware.testing.provider import ScriptedProvider


@pytest.fixture(scope="session")
def gov_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of an embedded store for this test session."""
    from govmiddleware.ledger.embedded import EmbeddedStore

    with EmbeddedStore(tmp_path_factory.mktemp("gov")) as url:
        yield url


@pytest.fixture
def gov_store(gov_server: str) -> str:
    """The URL of an embedded store that is empty when the test begins."""
    from redis import Redis

    with Redis.from_url(gov_server) as redis:
        redis.flushall()
    return gov_server


@pytest.fixture
def gov_clock() -> Clock:
    """A clock that the test moves."""
    from govmiddleware.testing.clock import Clock

    return Clock()


@pytest.fixture
def gov_provider() -> Iterator[tuple[ScriptedProvider, str]]:
    """A scripted provider on a real server, and its URL."""
    from govmiddleware.testing.provider import ScriptedProvider
    from govmiddleware.testing.server import serve_in_thread

    provider = ScriptedProvider()
    with serve_in_thread(provider) as server:
        yield provider, server.url


@pytest.fixture
def make_governance(gov_store: str, tmp_path: Path) -> Callable[..., Governance]:
    """Makes a Governance on the test's store, with a journal of the test's own, from settings as keywords, and
    `clock=`."""
    from govmiddleware.app import Governance
    from govmiddleware.settings import Settings

    def make(*, clock: Callable[[], int] | None = None, **settings: Any) -> Governance:
        own: dict[str, Any] = {"redis_url": gov_store, "data_dir": tmp_path / "gov"}
        return Governance(Settings(**own | settings), clock=clock)

    return make
