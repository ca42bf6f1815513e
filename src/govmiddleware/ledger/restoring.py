"""Turns to restore what the store has lost: the port `core.adjustments.RestoringTurns`."""

from __future__ import annotations

import os
import socket
from typing import cast

from govmiddleware.core.ids import new_request_id
from govmiddleware.ledger import scripts
from govmiddleware.ledger.connection import LONG_PATIENCE_SECONDS, Client, store_call
from govmiddleware.ledger.keys import WORKSPACES, WorkspaceKeys

_TURN_MS = 10 * 60 * 1000
"""Nobody restores for longer. One who dies in it keeps the others from it for so long."""


class RedisRestoringTurns:
    def __init__(self, redis: Client) -> None:
        self._redis = redis

    async def begin(self, workspace: str, last_record_id: str) -> str | None:
        keys = WorkspaceKeys(workspace)
        turn = f"{socket.gethostname()}:{os.getpid()}:{new_request_id()}"  # whose it is, for people who look
        async with store_call(LONG_PATIENCE_SECONDS):
            await self._redis.sadd(WORKSPACES, workspace)
            taken = await scripts.begin_restoring(
                self._redis, [keys.restorer, keys.journal], [turn, _TURN_MS, last_record_id]
            )
        return turn if taken else None

    async def whose(self, workspace: str) -> str:
        async with store_call(LONG_PATIENCE_SECONDS):
            turn = cast("bytes | None", await self._redis.get(WorkspaceKeys(workspace).restorer))
        return (turn or b"").decode()

    async def end(self, workspace: str, turn: str, epoch: str | None) -> bool:
        keys = WorkspaceKeys(workspace)
        async with store_call(LONG_PATIENCE_SECONDS):
            return bool(
                await scripts.end_restoring(self._redis, [keys.restorer, keys.state], [turn, epoch or ""])
            )
