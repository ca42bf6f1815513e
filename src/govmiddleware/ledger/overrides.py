"""The overrides in force on Redis: one hash."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from govmiddleware.ledger.connection import PROBE_SECONDS, Client, store_call
from govmiddleware.ledger.keys import OVERRIDES, OVERRIDES_WALKER


class RedisRaises:
    """The port `core.registries.RaiseStore`."""

    def __init__(self, redis: Client) -> None:
        self._redis = redis

    async def read(self) -> Mapping[str, bytes]:
        async with store_call(PROBE_SECONDS):
            found = cast("dict[bytes, bytes]", await self._redis.hgetall(OVERRIDES))
        return {override_id.decode(errors="replace"): each for override_id, each in found.items()}

    async def put(self, override_id: str, raised: bytes) -> None:
        async with store_call():
            await self._redis.hset(OVERRIDES, override_id, raised)

    async def delete(self, override_id: str) -> None:
        async with store_call():
            await self._redis.hdel(OVERRIDES, override_id)

    async def take_turn(self, turn_ms: int) -> bool:
        async with store_call():
            return bool(await self._redis.set(OVERRIDES_WALKER, "", nx=True, px=turn_ms))
