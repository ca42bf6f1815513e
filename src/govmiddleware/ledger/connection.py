"""The connection to the store, and the one border where Redis' exceptions become ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from govmiddleware.errors import StoreUnavailable

TIMEOUT_SECONDS = 0.25
"""For connecting, for each answer, and for a free connection: a call must not hang on a store."""

_CONNECTIONS = 16


def connect(url: str) -> Redis:
    """A client for `redis://`, `rediss://` or `unix://`. Connects at the first command.

    It never retries: a write whose answer was lost may have been carried out, and only the ledger knows
    how to send it again.
    """
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=_CONNECTIONS,
        timeout=TIMEOUT_SECONDS,
        socket_timeout=TIMEOUT_SECONDS,
        socket_connect_timeout=TIMEOUT_SECONDS,
        retry=Retry(NoBackoff(), 0),
    )
    return Redis.from_pool(pool)


@contextmanager
def store_errors() -> Iterator[None]:
    """Map what redis-py and the OS raise to StoreUnavailable."""
    try:
        yield
    except (RedisError, OSError, TimeoutError) as error:
        raise StoreUnavailable(f"{type(error).__name__}: {error}") from error
