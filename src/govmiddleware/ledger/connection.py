"""The connection to the store, and the one border where Redis' exceptions become ours."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

from redis.asyncio import ConnectionPool, Redis, RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool
from redis.backoff import NoBackoff
from redis.exceptions import RedisClusterException, RedisError

from govmiddleware.errors import StoreUnavailable
from govmiddleware.ledger.merged import TICKS, MergedCalls
from govmiddleware.ledger.store_url import StoreUrl, read_store_url

PATIENCE_SECONDS = 0.25
"""For everything on a request's way, its turn and connecting included: no call hangs on a store."""

LONG_PATIENCE_SECONDS = 10.0
"""For reports and audits, which read much. On a cluster each answer has `_NODE_SECONDS` all the same."""

PROBE_SECONDS = 2.0
"""For the look at who answers, every second: on a cluster it outlasts `_NODE_SECONDS`, and so is what finds out
that a node hangs and who serves instead."""

_COMMANDS_AT_ONCE = 64
_NODE_SECONDS = 0.5
"""For one answer of a cluster's node, after which its client asks the others who serves instead. Longer than a
request's patience, which allows for a late event loop, as this does not."""
_SENTINEL_SECONDS = 0.1
"""For one sentinel, after which the next is asked: short, for all are asked within one request's patience."""

FAILURES = RedisError, RedisClusterException, OSError, TimeoutError
"""What redis-py and the OS raise where the store cannot be asked."""

_NO_RETRIES: Any = {"retry": Retry(NoBackoff(), 0)}
_NO_HANDSHAKE: Any = {"protocol": 2, "driver_info": None}
"""With these two a connection needs none: a cold burst takes a fifth of the time."""
_NO_TIMEOUTS: Any = {"socket_timeout": None, "socket_connect_timeout": None}


class _InTurn:
    """At most so many commands at a time; further ones wait, within their callers' patience."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._turns = asyncio.Semaphore(_COMMANDS_AT_ONCE)

    async def execute_command(self, *arguments: Any, **options: Any) -> Any:
        async with self._turns:
            return await super().execute_command(*arguments, **options)  # type: ignore[misc]


class _Pool(ConnectionPool):
    def is_current(self, connection: Any) -> bool:
        return True


class Server(_InTurn, Redis):  # type: ignore[misc]
    """One server that takes writes.

    Attributes:
        merged: for the calls on a request's way.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.merged = MergedCalls(cast("Any", self.connection_pool), lambda: PATIENCE_SECONDS)

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        await self.merged.aclose()
        await super().aclose(close_connection_pool)


class Cluster(_InTurn, RedisCluster):  # type: ignore[misc]
    merged = None
    """Each call goes to the server of its slot."""

    async def execute_command(self, *arguments: Any, **options: Any) -> Any:
        await self.initialize()  # redis-py sends to any node what comes before it knows the slots
        try:
            return await super().execute_command(*arguments, **options)
        except (AttributeError, RuntimeError) as error:
            # When a node fails, redis-py 8.1 closes its idle connections, and those with them that other
            # commands take meanwhile: these find no writer, or with uvloop a closed one.
            raise ConnectionError("the connection was closed as it was taken") from error


class _MasterPool(SentinelConnectionPool):
    """Lets go of a connection that was in use while the sentinels named another master: the old one may come back
    and take itself for the master still, and what it acknowledges then is lost."""

    def is_current(self, connection: Any) -> bool:
        return (connection.host, connection.port) == self.master_address

    async def release(self, connection: Any) -> None:
        if not self.is_current(connection):
            await connection.disconnect()
        await super().release(connection)


class _Master(Server):
    """The master that the sentinels name, looked up for each new connection."""

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        await super().aclose(close_connection_pool)
        await self.connection_pool.sentinel_manager.aclose()  # type: ignore[attr-defined]


Client = Server | Cluster


def connect(url: str) -> Client:
    """A client for a store at `url` (`store_url.read_store_url`). Connects at the first command.

    It never retries: a write whose answer was lost may have been carried out, and only the ledger knows
    how to send it again. It has no timeouts but for finding out which node to ask: `store_call` has them.

    Raises ValueError for a URL that is none.
    """
    found = read_store_url(url)
    match found.kind:
        case "server":
            pool = _Pool(**found.options, **_NO_TIMEOUTS, **_NO_RETRIES, **_NO_HANDSHAKE)
            return cast("Server", Server.from_pool(pool))
        case "sentinel":
            return _master(found)
        case "cluster":
            return Cluster(
                startup_nodes=[ClusterNode(*host) for host in found.hosts],
                max_connections=2 * _COMMANDS_AT_ONCE,
                reinitialize_steps=0,  # else some redirections close all connections, those in use too
                socket_timeout=_NODE_SECONDS,
                socket_connect_timeout=_NODE_SECONDS,
                **found.options,
                **_NO_RETRIES,
                **_NO_HANDSHAKE,
            )


def _master(url: StoreUrl) -> Client:
    sentinel: Any = cast("Any", Sentinel)(
        url.hosts,
        sentinel_kwargs={
            "socket_timeout": _SENTINEL_SECONDS,
            "socket_connect_timeout": _SENTINEL_SECONDS,
            **url.sentinel_options,
            **_NO_RETRIES,
            **_NO_HANDSHAKE,
        },
        **_NO_TIMEOUTS,
        **url.options,
        **_NO_RETRIES,
        **_NO_HANDSHAKE,
    )
    client: Client = sentinel.master_for(url.service, redis_class=_Master, connection_pool_class=_MasterPool)
    return client


async def ask_each_node(redis: Client, *command: str) -> list[Any]:
    """The answers of every server that takes writes: one, but for a cluster."""
    if isinstance(redis, RedisCluster):
        await redis.initialize()
        return [await redis.execute_command(*command, target_nodes=node) for node in redis.get_primaries()]
    return [await cast("Any", redis).execute_command(*command)]


@asynccontextmanager
async def store_call(patience: float | None = None) -> AsyncIterator[None]:
    """Around what is asked of the store: maps what redis-py and the OS raise to StoreUnavailable, and
    raises it after `patience` seconds too (None: PATIENCE_SECONDS).

    Time is counted in a few ticks, each begun when the event loop got round to the one before: a loop
    that is late itself does not take the store for slow, but reads the answers that wait for it first.
    """
    loop = asyncio.get_running_loop()
    seconds = PATIENCE_SECONDS if patience is None else patience
    try:
        async with asyncio.timeout(None) as deadline:
            timers: list[asyncio.TimerHandle] = []

            def tick(left: int) -> None:
                if left:
                    timers[:] = [loop.call_later(seconds / TICKS, tick, left - 1)]  # noqa: F821, it is deleted below
                else:
                    deadline.reschedule(loop.time())

            tick(TICKS)
            try:
                yield
            finally:
                timers[0].cancel()
                del tick  # which names itself: garbage for the collector alone
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        # Nobody cancelled this call, but one that waited for the same connection to close: asyncio's streams have
        # one future for all who do.
        raise StoreUnavailable("the connection was closed") from error
    except FAILURES as error:
        raise unavailable(error) from error


def unavailable(error: Exception) -> StoreUnavailable:
    return StoreUnavailable(f"{type(error).__name__}: {error}".rstrip(": "))
