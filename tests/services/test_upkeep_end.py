"""The end of what runs beside the requests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from tests.services.worker import Worker


async def test_work_that_swallows_its_cancellation_ends_all_the_same(
    gov_store: str, make_worker: Callable[[str], Worker]
) -> None:
    """As a client of a store may, which times out or mends its connections in the very moment."""
    upkeep = make_worker(gov_store).upkeep
    begun = asyncio.Event()

    async def swallow() -> None:
        begun.set()
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()

    upkeep.also(0, swallow)
    upkeep.start()
    await begun.wait()
    ending = asyncio.create_task(upkeep.stop())
    ended, _ = await asyncio.wait({ending}, timeout=5)
    assert ended
