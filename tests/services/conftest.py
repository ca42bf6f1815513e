"""Workers on a store."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest
from tests.services.worker import Worker

from govmiddleware.services import upkeep
from govmiddleware.testing.clock import Clock


@pytest.fixture
async def make_worker(gov_clock: Clock) -> AsyncIterator[Callable[..., Worker]]:
    workers = []

    def make(url: str, sweep_seconds: float = 0.05) -> Worker:
        workers.append(Worker(url, gov_clock, sweep_seconds))
        return workers[-1]

    yield make
    for worker in workers:
        await worker.end()


@pytest.fixture(autouse=True)
def resends_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "_RESEND_SECONDS", 0.02)
