"""A drainer in a process of its own that dies, as by `kill -9`, at one point of its work.

It drains in batches of ten, trims at once, and dies the second time it comes to the point.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
from typing import Any

from govmiddleware.journal.database import Database
from govmiddleware.journal.history import SqlHistory
from govmiddleware.ledger import drain_turn
from govmiddleware.ledger.connection import connect
from govmiddleware.ledger.drain_turn import RedisDrainTurn
from govmiddleware.ledger.journal import RedisJournal
from govmiddleware.metrics import Metrics
from govmiddleware.services import drain
from govmiddleware.services.drain import Drainer

POINTS = ("read", "inserted", "committed", "trimmed")


async def _drain(store_url: str, journal_url: str, point: str) -> None:
    redis, database = connect(store_url), Database(journal_url)
    journal, history = RedisJournal(redis), SqlHistory(database)
    times = itertools.count(1)

    def die() -> None:
        if next(times) == 2:
            os.kill(os.getpid(), signal.SIGKILL)

    def after(part: Any, method: str) -> None:
        once = getattr(part, method)

        async def wrapped(*arguments: Any, **named: Any) -> Any:
            answer = await once(*arguments, **named)
            die()
            return answer

        setattr(part, method, wrapped)

    match point:
        case "read":
            after(journal, "page")
        case "inserted":
            after(history, "_advance")  # the last that it does before it commits
        case "committed":
            after(history, "append")
        case "trimmed":
            after(journal, "trim")
    drainer = Drainer(journal, history, RedisDrainTurn(redis), Metrics())
    while True:
        await drainer.drain()


def run(store_url: str, journal_url: str, point: str) -> None:
    """The work of the process."""
    drain._BATCH, drain._BATCHES_IN_TURN, drain._KEEP_SECONDS = 10, 1, 0.0
    drain_turn.TURN_SECONDS = 0.2
    asyncio.run(_drain(store_url, journal_url, point))
