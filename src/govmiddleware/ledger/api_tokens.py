"""The registry of API tokens on Redis. Secrets are stored as their SHA-256 alone."""

from __future__ import annotations

from dataclasses import replace

import msgspec

from govmiddleware.core.registries import StoredApiToken
from govmiddleware.ledger.connection import LONG_PATIENCE_SECONDS, Client, store_call
from govmiddleware.ledger.directory import read_directory
from govmiddleware.ledger.keys import WORKSPACES, WorkspaceKeys, api_token

_decoder = msgspec.json.Decoder(StoredApiToken)


class RedisApiTokens:
    """The port `core.registries.ApiTokenStore`.

    A token's record lies twice: under its hash, where a request finds it before its workspace is known,
    and in its workspace's list. Whether it is active stands once, in the workspace's set that every
    admission reads.
    """

    def __init__(self, redis: Client) -> None:
        self._redis = redis

    async def find(self, sha256: str) -> StoredApiToken | None:
        async with store_call():
            raw = await self._redis.get(api_token(sha256))
        return None if raw is None else _decoder.decode(raw)

    async def add(self, token: StoredApiToken, sha256: str) -> None:
        """Active before it can be found, so that no request meets it half made."""
        keys, raw = WorkspaceKeys(token.workspace), msgspec.json.encode(token)
        async with store_call():
            await self._redis.sadd(WORKSPACES, token.workspace)
            await self._redis.hset(keys.tokens, token.id, raw)
            await self._redis.sadd(keys.active_tokens, token.id)
            await self._redis.set(api_token(sha256), raw)

    async def list(self) -> list[StoredApiToken]:
        tokens = []
        async with store_call(LONG_PATIENCE_SECONDS):
            for workspace in await read_directory(self._redis):
                keys = WorkspaceKeys(workspace)
                active = await self._redis.smembers(keys.active_tokens)
                for token_id, raw in (await self._redis.hgetall(keys.tokens)).items():
                    tokens.append(replace(_decoder.decode(raw), active=token_id in active))
        return sorted(tokens, key=lambda token: (token.workspace, token.created_at, token.id))

    async def is_active(self, workspace: str, token_id: str) -> bool:
        async with store_call():
            return bool(await self._redis.sismember(WorkspaceKeys(workspace).active_tokens, token_id))

    async def revoke(self, token: StoredApiToken) -> bool:
        async with store_call():
            return bool(await self._redis.srem(WorkspaceKeys(token.workspace).active_tokens, token.id))
