"""The port `core.draining.DrainTurn` on Redis: a key with a TTL."""

from __future__ import annotations

import itertools
import os
import socket
from typing import Any, cast

import msgspec

from govmiddleware.core.draining import DrainReport
from govmiddleware.ledger import scripts
from govmiddleware.ledger.connection import Client, store_call
from govmiddleware.ledger.keys import DRAINER

TURN_SECONDS = 5.0
"""How long the others wait for one that died."""

_numbers = itertools.count()
_decoder = msgspec.json.Decoder(DrainReport)


class RedisDrainTurn:
    def __init__(self, redis: Client) -> None:
        self._redis = redis
        self._me = f"{socket.gethostname()}:{os.getpid()}:{next(_numbers)}"

    async def take(self, report: DrainReport | None = None) -> bool:
        said = b"" if report is None else msgspec.json.encode(report)
        async with store_call():
            turn_ms = round(TURN_SECONDS * 1000)
            return bool(await scripts.drain_turn(self._redis, [DRAINER], [self._me, turn_ms, said]))

    async def leave(self) -> None:
        async with store_call():
            if await cast("Any", self._redis.hget(DRAINER, "by")) == self._me.encode():
                await self._redis.delete(DRAINER)

    async def report(self) -> DrainReport | None:
        async with store_call():
            said = await cast("Any", self._redis.hget(DRAINER, "report"))
        return _decoder.decode(said) if said else None
