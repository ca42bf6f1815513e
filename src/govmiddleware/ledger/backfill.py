"""The port `core.backfill.BackfillNotes` on Redis."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Iterable, Mapping
from typing import cast

from govmiddleware.ledger.connection import Client, store_call
from govmiddleware.ledger.keys import BACKFILL_NOTES, BACKFILLER

_TURN_MS = 120_000
"""Longer than a round takes; another worker goes on after it, where one died."""


class RedisBackfillNotes:
    def __init__(self, redis: Client) -> None:
        self._redis = redis
        self._me = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"

    async def take_turn(self) -> bool:
        async with store_call():
            return bool(await self._redis.set(BACKFILLER, self._me, nx=True, px=_TURN_MS))

    async def leave_turn(self) -> None:
        async with store_call():
            if await self._redis.get(BACKFILLER) == self._me.encode():
                await self._redis.delete(BACKFILLER)

    async def read(self) -> Mapping[str, str]:
        async with store_call():
            found = cast("dict[bytes, bytes]", await self._redis.hgetall(BACKFILL_NOTES))
        return {kind.decode(): note.decode() for kind, note in found.items()}

    async def write(self, kind: str, note: str) -> None:
        async with store_call():
            await self._redis.hset(BACKFILL_NOTES, kind, note)

    async def forget(self, kinds: Iterable[str]) -> None:
        async with store_call():
            await self._redis.hdel(BACKFILL_NOTES, *kinds)
