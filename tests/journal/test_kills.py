"""A drainer that is killed, at each point of its work, loses nothing and adds nothing twice."""

from __future__ import annotations

import asyncio
import multiprocessing
import signal

import pytest

from govmiddleware.journal.history import SqlHistory
from govmiddleware.services import drain
from tests.journal import doomed
from tests.journal.draining import COUNTERS, Draining

_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload([doomed.__name__])  # what takes the longest is imported once

NAMES = [str(number) for number in range(40)]


@pytest.mark.parametrize("point", doomed.POINTS)
async def test_whoever_goes_on_finds_all_records_once(
    point: str, gov_store: str, journal_url: str, history: SqlHistory, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Draining(gov_store, history) as worker:
        await worker.settle(*NAMES)
        stream = await worker.waiting()
        process = _processes.Process(target=doomed.run, args=(gov_store, journal_url, point))
        process.start()
        await asyncio.to_thread(process.join, 60)
        assert process.exitcode == -signal.SIGKILL, "it came to the point"
        assert (
            len(await worker.drained()) == {"read": 10, "inserted": 10, "committed": 19, "trimmed": 19}[point]
        )
        assert (len(await worker.waiting()) < len(NAMES)) == (point in ("trimmed",))
        assert await worker.names() == NAMES, "whoever reads both sees all, at any time"

        monkeypatch.setattr(drain, "_KEEP_SECONDS", 0.0)
        async with asyncio.timeout(10):
            while len(await worker.drained()) < len(NAMES):
                await worker.drainer.drain()
        assert await worker.drained() == stream
        sums, _ = await history.sums("acme", 0)
        assert sum(sums.values()) == len(COUNTERS) * 3 * len(NAMES)
