"""The connection to the store for code without an event loop: as `connection.py`, with redis-py's synchronous client."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

from redis import ConnectionPool, Redis, RedisCluster
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode
from redis.connection import Connection, SSLConnection, UnixDomainSocketConnection
from redis.exceptions import RedisClusterException, RedisError
from redis.retry import Retry
from redis.sentinel import Sentinel

from govmiddleware.errors import StoreUnavailable
from govmiddleware.ledger.store_url import read_store_url

_SECONDS = 1.0
"""For an answer, and for connecting: nobody else's request waits meanwhile."""

SyncClient = Redis | RedisCluster


def connect(url: str) -> SyncClient:
    """A client for a store at `url`, for many threads. It never retries. Raises ValueError for a URL that is none."""
    found = read_store_url(url)
    ours: Any = {
        "socket_timeout": _SECONDS,
        "socket_connect_timeout": _SECONDS,
        "retry": Retry(NoBackoff(), 0),
        # No HELLO, but redis-py's greeting: over TLS 1.3 it is the first answer that takes the session tickets from
        # the wire, which look like a stray answer else.
        "protocol": 2,
    }
    options: Any = {name: value for name, value in found.options.items() if name != "connection_class"}
    match found.kind:
        case "server":
            kind = found.options.get("connection_class", Connection).__name__
            made_by = {
                each.__name__: each for each in (Connection, SSLConnection, UnixDomainSocketConnection)
            }
            return Redis.from_pool(ConnectionPool(made_by[kind], **options, **ours))
        case "sentinel":
            sentinel: Any = cast("Any", Sentinel)(
                found.hosts, sentinel_kwargs={**found.sentinel_options, **ours}, **options, **ours
            )
            client: Redis = sentinel.master_for(found.service)
            return client
        case "cluster":
            return RedisCluster(
                startup_nodes=[cast("Any", ClusterNode)(*host) for host in found.hosts], **options, **ours
            )


@contextmanager
def store_call() -> Iterator[None]:
    """Around what is asked of the store: maps what redis-py and the OS raise to StoreUnavailable."""
    try:
        yield
    except (RedisError, RedisClusterException, OSError) as error:
        raise StoreUnavailable(f"{type(error).__name__}: {error}".rstrip(": ")) from error
