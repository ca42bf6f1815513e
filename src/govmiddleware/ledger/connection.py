"""The connection to the store, and the one border where Redis' exceptions become ours."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from govmiddleware.errors import StoreUnavailable

PATIENCE_SECONDS = 0.25
"""For everything on a request's way, a free connection and connecting included: no call hangs on a store."""

LONG_PATIENCE_SECONDS = 10.0
"""For reports and audits, which read much."""

_CONNECTIONS = 64
_TICKS = 5


def connect(url: str) -> Redis:
    """A client for `redis://`, `rediss://` or `unix://`. Connects at the first command.

    It never retries: a write whose answer was lost may have been carried out, and only the ledger knows
    how to send it again. It has no timeouts of its own: `store_call` has them.
    """
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=_CONNECTIONS,
        timeout=None,
        socket_timeout=None,
        socket_connect_timeout=None,
        retry=Retry(NoBackoff(), 0),
        protocol=2,
        driver_info=None,  # with these two a connection needs no handshake: a cold burst takes a fifth
    )
    return Redis.from_pool(pool)


@asynccontextmanager
async def store_call(patience: float = PATIENCE_SECONDS) -> AsyncIterator[None]:
    """Around what is asked of the store: maps what redis-py and the OS raise to StoreUnavailable, and
    raises it after `patience` seconds too.

    Time is counted in a few ticks, each begun when the event loop got round to the one before: a loop
    that is late itself does not take the store for slow, but reads the answers that wait for it first.
    """
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(None) as deadline:
            timers: list[asyncio.TimerHandle] = []

            def tick(left: int) -> None:
                if left:
                    timers[:] = [loop.call_later(patience / _TICKS, tick, left - 1)]
                else:
                    deadline.reschedule(loop.time())

            tick(_TICKS)
            try:
                yield
            finally:
                timers[0].cancel()
    except (RedisError, OSError, TimeoutError) as error:
        raise StoreUnavailable(f"{type(error).__name__}: {error}".rstrip(": ")) from error
