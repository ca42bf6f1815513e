"""Epochs: what tells a workspace that is new from one whose counters the store has lost.

A workspace gets an epoch at its first use: in the history, and then in the store. Nothing is admitted without the
store's; and one that the history knows by another epoch than the store was about to begin has lost its counters. The
workspace of the whole deployment has one from the start, that a store which has lost its registries is known, too.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import cast

from govmiddleware.core.ids import new_epoch
from govmiddleware.core.scopes import DEPLOYMENT_WORKSPACE
from govmiddleware.errors import HistoryUnavailable, StoreLost
from govmiddleware.ledger.connection import Client, store_call
from govmiddleware.ledger.keys import WorkspaceKeys
from govmiddleware.ledger.sync_connection import SyncClient
from govmiddleware.ledger.sync_connection import store_call as sync_store_call

logger = logging.getLogger("govmiddleware.epochs")

_HISTORY_SECONDS = 2.0
"""For the one question that a call has to wait for."""
_REMEMBERED_SECONDS = 1.0
"""For how long an answer is taken for granted that refuses everything anyway."""

EPOCH, CANDIDATE = "epoch", "candidate"
"""Fields of a workspace's state. The candidate is what this life of the store would begin with: it goes with it."""


class Epochs:
    """Begins the epochs of workspaces.

    Args:
        begin_epoch: `History.begin_epoch`. Without a history nobody can tell, and every epoch begins.
        tell: called when a workspace is found lost.
    """

    def __init__(
        self,
        redis: Client,
        begin_epoch: Callable[[str, str], Awaitable[str]] | None = None,
        tell: Callable[[], None] = lambda: None,
    ) -> None:
        self._redis = redis
        self._begin_epoch = begin_epoch
        self._tell = tell
        self._turn = asyncio.Lock()
        self._refused: dict[str, tuple[float, str]] = {}

    async def begin(self, workspace: str) -> None:
        """To be called where a workspace has no epoch. Raises StoreLost, and StoreUnavailable."""
        await self._begin_in_turn(workspace)

    async def check_registries(self) -> None:
        """To be called where limits or API tokens are missing, or may be. Raises StoreLost where the store has lost
        them, and StoreUnavailable.

        Where the history does not answer they are taken for whole: in a store that has lost all, no workspace can
        begin its epoch then.
        """
        await self._begin_in_turn(DEPLOYMENT_WORKSPACE, may_be_unknown=True)

    async def _begin_in_turn(self, workspace: str, *, may_be_unknown: bool = False) -> None:
        async with self._turn:
            refused_at, why = self._refused.get(workspace, (float("-inf"), ""))
            if time.monotonic() < refused_at + _REMEMBERED_SECONDS:
                raise StoreLost(why)
            try:
                await self._begin(workspace)
            except StoreLost as error:
                if may_be_unknown and isinstance(error, _Unknown):
                    return
                self._tell()
                self._refused[workspace] = time.monotonic(), str(error)
                logger.error("%s: %s", error, error.__cause__ or "calls are refused")
                raise
            self._refused.pop(workspace, None)

    async def lost(self) -> list[str]:
        """Why calls were refused, for each workspace that still has no epoch. Raises StoreUnavailable."""
        for workspace in tuple(self._refused):
            async with store_call():
                if await self._redis.hexists(WorkspaceKeys(workspace).state, EPOCH):
                    self._refused.pop(workspace, None)
        return [why for _, why in self._refused.values()]

    async def _begin(self, workspace: str) -> None:
        state = WorkspaceKeys(workspace).state
        async with store_call():
            if await self._redis.hexists(state, EPOCH):
                return
            await self._redis.hsetnx(state, CANDIDATE, new_epoch())
            candidate = cast("bytes", await self._redis.hget(state, CANDIDATE)).decode()
        epoch = candidate
        if self._begin_epoch is not None:
            try:
                async with asyncio.timeout(_HISTORY_SECONDS):
                    epoch = await self._begin_epoch(workspace, candidate)
            except (HistoryUnavailable, TimeoutError) as error:
                raise unknown(workspace) from error
        if epoch != candidate:
            raise lost(workspace)
        async with store_call():
            await self._redis.hset(state, EPOCH, epoch)


class SyncEpochs:
    """The same for code without an event loop."""

    def __init__(self, redis: SyncClient, begin_epoch: Callable[[str, str], str] | None = None) -> None:
        self._redis = redis
        self._begin_epoch = begin_epoch

    def begin(self, workspace: str) -> None:
        """Raises StoreLost, and StoreUnavailable."""
        state = WorkspaceKeys(workspace).state
        with sync_store_call():
            self._redis.hsetnx(state, CANDIDATE, new_epoch())
            candidate = cast("bytes", self._redis.hget(state, CANDIDATE)).decode()
        epoch = candidate
        if self._begin_epoch is not None:
            try:
                epoch = self._begin_epoch(workspace, candidate)
            except HistoryUnavailable as error:
                raise unknown(workspace) from error
        if epoch != candidate:
            raise lost(workspace)
        with sync_store_call():
            self._redis.hset(state, EPOCH, epoch)


def lost(workspace: str) -> StoreLost:
    return StoreLost(
        f"the store has lost {_what(workspace)}, which the journal knows: "
        "`govmiddleware audit --rebuild` restores them"
    )


class _Unknown(StoreLost):
    """Nobody can tell."""


def unknown(workspace: str) -> StoreLost:
    return _Unknown(
        f"the store does not have {_what(workspace)}, and the journal in SQL, which knows whether it has lost them, "
        "does not answer"
    )


def _what(workspace: str) -> str:
    is_wide = workspace == DEPLOYMENT_WORKSPACE
    return "its limits and API tokens" if is_wide else f"the counters of workspace {workspace!r}"
