"""What all tests share. The fixtures on the store, the clock and the provider are the package's own."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"
