"""The registry of API tokens on Redis. Secrets are stored as their SHA-256 alone."""

from __future__ import annotations

import msgspec
from msgspec.structs import replace

from govmiddleware.core.registries import StoredApiToken
from govmiddleware.ledger.connection import LONG_PATIENCE_SECONDS, Client, store_call
from govmiddleware.ledger.directory import read_directory
from govmiddleware.ledger.epochs import Epochs
from govmiddleware.ledger.keys import WORKSPACES, WorkspaceKeys, api_token

_decoder = msgspec.json.Decoder(StoredApiToken)


class RedisApiTokens:
    """The port `core.registries.ApiTokenStore`.

    A token's record lies twice: under its hash, where a request finds it before its workspace is known,
    and in its workspace's list. Whether it is active stands once, in the workspace's set that every
    admission reads.

    Args:
        epochs: without them no tokens are ever missed.
    """

    def __init__(self, redis: Client, epochs: Epochs | None = None) -> None:
        self._redis = redis
        self._epochs = epochs or Epochs(redis)

    async def find(self, sha256: str) -> StoredApiToken | None:
        async with store_call():
            raw = await self._redis.get(api_token(sha256))
        if raw is None:
            await self._epochs.check_registries()  # else it may be one that was lost
            return None
        return _decoder.decode(raw)

    async def add(self, token: StoredApiToken, sha256: str) -> None:
        """Active before it can be found, so that no request meets it half made."""
        keys, raw = WorkspaceKeys(token.workspace), msgspec.json.encode(token)
        async with store_call():
            await self._redis.sadd(WORKSPACES, token.workspace)
            await self._redis.hset(keys.tokens, token.id, raw)
            await self._redis.sadd(keys.active_tokens, token.id)
            await self._redis.set(api_token(sha256), raw)

    async def replace(self, token: StoredApiToken, sha256: str) -> None:
        raw = msgspec.json.encode(token)
        async with store_call():
            await self._redis.hset(WorkspaceKeys(token.workspace).tokens, token.id, raw)
            await self._redis.set(api_token(sha256), raw)

    async def restore(self, token: StoredApiToken, sha256: str) -> bool:
        """In the order of `add`, so that one who dies in the midst can be followed by another."""
        keys, raw = WorkspaceKeys(token.workspace), msgspec.json.encode(token)
        async with store_call(LONG_PATIENCE_SECONDS):
            await self._redis.sadd(WORKSPACES, token.workspace)
            is_unknown = not await self._redis.hexists(keys.tokens, token.id)
            if is_unknown:
                await self._redis.sadd(keys.active_tokens, token.id)
                await self._redis.hset(keys.tokens, token.id, raw)
            cannot_be_found = await self._redis.set(api_token(sha256), raw, nx=True)
        return bool(is_unknown or cannot_be_found)

    async def active(self) -> dict[str, StoredApiToken]:
        found: dict[str, StoredApiToken] = {}
        prefix, suffix = api_token("*").split("*")
        ids = {token.id for token in await self.list() if token.active}
        cursor = self._redis.scan_iter(match=api_token("*"), count=1000)
        while True:
            async with store_call(LONG_PATIENCE_SECONDS):
                key = await anext(cursor, None)
                if key is None:
                    return found
                raw = await self._redis.get(key)
            token = None if raw is None else _decoder.decode(raw)
            if token is not None and token.id in ids:
                found[key.decode().removeprefix(prefix).removesuffix(suffix)] = token

    async def list(self) -> list[StoredApiToken]:
        tokens = []
        async with store_call(LONG_PATIENCE_SECONDS):
            for workspace in await read_directory(self._redis):
                keys = WorkspaceKeys(workspace)
                active = await self._redis.smembers(keys.active_tokens)
                for token_id, raw in (await self._redis.hgetall(keys.tokens)).items():
                    tokens.append(replace(_decoder.decode(raw), active=token_id in active))
        await self._epochs.check_registries()
        return sorted(tokens, key=lambda token: (token.workspace, token.created_at, token.id))

    async def is_active(self, workspace: str, token_id: str) -> bool:
        async with store_call():
            is_active = bool(await self._redis.sismember(WorkspaceKeys(workspace).active_tokens, token_id))
        if not is_active:
            await self._epochs.check_registries()
        return is_active

    async def revoke(self, token: StoredApiToken) -> bool:
        async with store_call():
            return bool(await self._redis.srem(WorkspaceKeys(token.workspace).active_tokens, token.id))
