"""The Lua scripts as typed async functions: one trip each, loaded again where the store forgot them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib.resources import files
from typing import Any, cast

from redis.asyncio import Redis
from redis.exceptions import NoScriptError

Argument = str | bytes | int


class Script:
    """One file of `lua/`, with the shared functions of `_counters.lua` between its header and body."""

    def __init__(self, name: str) -> None:
        folder = files("govmiddleware.ledger") / "lua"
        source = (folder / f"{name}.lua").read_text("utf-8")
        if not source.startswith("#!lua flags=no-writes"):
            shebang, body = source.split("\n", 1)
            source = "\n".join([shebang, (folder / "_counters.lua").read_text("utf-8"), body])
        self.name = name
        self._source = source
        self._sha = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()

    async def __call__(self, redis: Redis, keys: Sequence[str], arguments: Sequence[Argument]) -> Any:
        """Run it. NOSCRIPT means that nothing was run, so sending the source after it is safe."""
        try:
            return await cast("Any", redis.evalsha(self._sha, len(keys), *keys, *arguments))
        except NoScriptError:
            return await cast("Any", redis.eval(self._source, len(keys), *keys, *arguments))


acquire = Script("acquire")
settle = Script("settle")
renew = Script("renew")
sweep = Script("sweep")
snapshot = Script("snapshot")
since = Script("since")
