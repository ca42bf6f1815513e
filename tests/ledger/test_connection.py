"""What a caller of the store meets where its client's connections fail."""

from __future__ import annotations

import asyncio

import pytest

from govmiddleware.errors import StoreUnavailable
from govmiddleware.ledger.connection import store_call


async def test_what_another_call_cancelled_is_a_store_that_is_away() -> None:
    """Two calls wait for the same connection to close; who is cancelled takes the other along (asyncio's streams)."""
    closing = asyncio.get_running_loop().create_future()
    closing.cancel()
    with pytest.raises(StoreUnavailable):
        async with store_call():
            await closing


async def test_a_call_that_is_cancelled_stays_cancelled() -> None:
    begun = asyncio.Event()

    async def call() -> None:
        async with store_call():
            begun.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(call())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
