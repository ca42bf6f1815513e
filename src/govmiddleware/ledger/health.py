"""Is this store fit to keep budgets?"""

from __future__ import annotations

import time
from dataclasses import dataclass

from redis.asyncio import Redis

from govmiddleware.ledger.connection import LONG_PATIENCE_SECONDS, store_call

_OLDEST_REDIS = (7, 0)
_SLOW_MS = 5.0
_CLOCK_SKEW_MS = 2000


@dataclass(frozen=True, slots=True)
class StoreCheck:
    """One thing that was looked at; `detail` is for people and says what to do."""

    check: str
    ok: bool
    detail: str


async def eviction_policy(redis: Redis) -> str:
    """`noeviction` is the one that keeps budgets. Raises StoreUnavailable."""
    async with store_call():
        return str((await redis.info("memory"))["maxmemory_policy"])


async def examine(redis: Redis) -> list[StoreCheck]:
    """Version, eviction, persistence, speed and clock. Raises StoreUnavailable."""
    async with store_call(LONG_PATIENCE_SECONDS):
        info = await redis.info()
        started = time.perf_counter()
        for _ in range(10):
            await redis.ping()
        trip_ms = (time.perf_counter() - started) * 100
        seconds, microseconds = await redis.time()
    name, version = info.get("server_name", "redis"), str(info["redis_version"])
    if name == "valkey":
        version = str(info["valkey_version"])
    policy = str(info["maxmemory_policy"])
    skew_ms = (time.time() - int(seconds) - int(microseconds) / 1e6) * 1000
    recent = tuple(int(part) for part in str(info["redis_version"]).split(".")[:2]) >= _OLDEST_REDIS
    return [
        StoreCheck(
            "version", recent, f"{name} {version}" + ("" if recent else "; 7.0 is the oldest that works")
        ),
        StoreCheck(
            "eviction",
            policy == "noeviction",
            f"maxmemory-policy {policy}"
            + ("" if policy == "noeviction" else "; set noeviction, or budgets are forgotten"),
        ),
        StoreCheck(
            "persistence",
            bool(int(info["aof_enabled"])),
            "AOF is on" if int(info["aof_enabled"]) else "AOF is off; a restart forgets what was spent",
        ),
        StoreCheck("speed", trip_ms < _SLOW_MS, f"{trip_ms:.2f} ms a trip"),
        StoreCheck("clock", abs(skew_ms) < _CLOCK_SKEW_MS, f"{skew_ms:+.0f} ms apart from this machine"),
    ]
