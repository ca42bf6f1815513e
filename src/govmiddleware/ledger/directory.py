"""The directory of workspaces: what sweeps, reports and audits walk instead of the whole store."""

from __future__ import annotations

from govmiddleware.ledger.connection import Client
from govmiddleware.ledger.keys import WORKSPACES


async def read_directory(redis: Client) -> list[str]:
    """All names, in order; read by cursor, which may come by a name twice."""
    return sorted({name.decode() async for name in redis.sscan_iter(WORKSPACES, count=500)})
