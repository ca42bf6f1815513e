"""The head of the audit log on Redis: one string."""

from __future__ import annotations

from typing import cast

from govmiddleware.core.audit_log import Head
from govmiddleware.ledger import scripts
from govmiddleware.ledger.connection import PROBE_SECONDS, Client, store_call
from govmiddleware.ledger.keys import AUDIT_HEAD


class RedisAuditHead:
    """The port `core.audit_log.AuditHeads`."""

    def __init__(self, redis: Client) -> None:
        self._redis = redis

    async def read(self) -> Head | None:
        async with store_call(PROBE_SECONDS):  # no request waits for it
            raw = cast("bytes | None", await self._redis.get(AUDIT_HEAD))
        if raw is None:
            return None
        text = raw.decode(errors="replace")
        try:
            return Head.read(text)
        except ValueError:  # we did not write that: an entry that no log has says so
            return Head(0, text)

    async def replace(self, kept: Head | None, head: Head) -> bool:
        async with store_call(PROBE_SECONDS):
            return bool(
                await scripts.replace_head(self._redis, [AUDIT_HEAD], [str(kept) if kept else "", str(head)])
            )
