"""The registry of limits on Redis: one hash."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from govmiddleware.ledger.connection import LONG_PATIENCE_SECONDS, PROBE_SECONDS, Client, store_call
from govmiddleware.ledger.epochs import Epochs
from govmiddleware.ledger.keys import LIMITS


class RedisLimits:
    """The port `core.registries.LimitStore`.

    Args:
        epochs: without them no limits are ever missed.
    """

    def __init__(self, redis: Client, epochs: Epochs | None = None) -> None:
        self._redis = redis
        self._epochs = epochs or Epochs(redis)

    async def read(self) -> Mapping[str, bytes]:
        async with store_call(PROBE_SECONDS):  # there may be many, and no request waits for them
            found = cast("dict[bytes, bytes]", await self._redis.hgetall(LIMITS))
        await self._epochs.check_registries()  # in this order: they were not lost before
        return {name.decode(errors="replace"): limit for name, limit in found.items()}

    async def put(self, name: str, limit: bytes) -> bool:
        async with store_call():
            return bool(await self._redis.hset(LIMITS, name, limit))

    async def restore(self, name: str, limit: bytes) -> bool:
        async with store_call(LONG_PATIENCE_SECONDS):
            return bool(await self._redis.hsetnx(LIMITS, name, limit))

    async def delete(self, name: str) -> bool:
        async with store_call():
            return bool(await self._redis.hdel(LIMITS, name))
