"""The Lua scripts as functions: one trip each, loaded again where the store forgot them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib.resources import files
from typing import Any, cast

from redis.exceptions import NoScriptError

from govmiddleware.ledger.connection import FAILURES, Client, store_call, unavailable
from govmiddleware.ledger.sync_connection import SyncClient

Argument = str | bytes | int


class Script:
    def __init__(self, source: str) -> None:
        self.source = source
        self._sha = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()

    async def __call__(self, redis: Client, keys: Sequence[str], arguments: Sequence[Argument]) -> Any:
        """Run it. NOSCRIPT means that nothing was run, so sending the source after it is safe."""
        try:
            return await cast("Any", redis.evalsha(self._sha, len(keys), *keys, *arguments))
        except NoScriptError:
            return await cast("Any", redis.eval(self.source, len(keys), *keys, *arguments))

    async def merged(self, redis: Client, keys: Sequence[str], arguments: Sequence[Argument]) -> Any:
        """The same for what is on a request's way: merged with what else this process asks at the moment
        (`merged.MergedCalls`), and with a request's patience. Raises StoreUnavailable."""
        if redis.merged is None:
            async with store_call():
                return await self(redis, keys, arguments)
        ask = redis.merged.ask
        try:
            try:
                return await ask("EVALSHA", self._sha, len(keys), *keys, *arguments)
            except NoScriptError:
                return await ask("EVAL", self.source, len(keys), *keys, *arguments)
        except FAILURES as error:
            raise unavailable(error) from error

    def run(self, redis: SyncClient, keys: Sequence[str], arguments: Sequence[Argument]) -> Any:
        """The same with a synchronous client."""
        try:
            return redis.evalsha(self._sha, len(keys), *keys, *arguments)
        except NoScriptError:
            return redis.eval(self.source, len(keys), *keys, *arguments)


def _read(name: str, *shared: str) -> Script:
    """One file of `lua/`, with the shared functions of `_counters.lua`, and of further such files, behind its
    first line."""
    folder = files("govmiddleware.ledger") / "lua"
    shebang, body = (folder / f"{name}.lua").read_text("utf-8").split("\n", 1)
    parts = [(folder / f"{part}.lua").read_text("utf-8") for part in ("_counters", *shared)]
    return Script("\n".join([shebang, *parts, body]))


acquire = _read("acquire", "_windows", "_overrides")
settle = _read("settle")
adjust = _read("adjust", "_windows", "_restore")
look = _read("look", "_windows")
renew = _read("renew")
expired = _read("expired")
sweep = _read("sweep")
snapshot = _read("snapshot")
since = _read("since")
begin_restoring = _read("begin_restoring")
end_restoring = _read("end_restoring")
trim = _read("trim")
drain_turn = _read("drain_turn")
replace_head = _read("replace_head")
replace_fields = _read("replace_fields")
