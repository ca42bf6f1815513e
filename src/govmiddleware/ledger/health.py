"""Is this store fit to keep budgets?"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from redis.exceptions import ResponseError

from govmiddleware.ledger import scripts
from govmiddleware.ledger.connection import LONG_PATIENCE_SECONDS, Client, ask_each_node, store_call
from govmiddleware.ledger.keys import WORKSPACES, WorkspaceKeys

_OLDEST_REDIS = (7, 0)
_SLOW_MS = 5.0
_CLOCK_SKEW_MS = 2000
_TRIPS = 10

Info = Mapping[str, Any]


class StoreCheck(msgspec.Struct, frozen=True):
    """One thing that was looked at; `detail` is for people and says what to do."""

    check: str
    ok: bool
    detail: str


async def eviction_policy(redis: Client) -> str:
    """`noeviction` is the one that keeps budgets: another one, if any server has it. Raises StoreUnavailable."""
    async with store_call():
        return _worst_policy(await ask_each_node(redis, "INFO", "memory"))


async def examine(redis: Client) -> list[StoreCheck]:
    """Version, role, eviction, persistence, scripts, speed and clock of every server that takes writes.

    Raises StoreUnavailable.
    """
    async with store_call(LONG_PATIENCE_SECONDS):
        trip_ms = await _trip_ms(redis)
        servers: list[Info] = await ask_each_node(redis, "INFO")
        times = await ask_each_node(redis, "TIME")
        refusal = await _refused_script(redis)
    policy, replicas = _worst_policy(servers), [info for info in servers if info.get("role") == "slave"]
    skew_ms = max((_skew_ms(each) for each in times), key=abs)
    without_aof = [info for info in servers if not int(info.get("aof_enabled", 0))]
    return [
        StoreCheck("version", all(map(_is_recent, servers)), _versions(servers)),
        StoreCheck(
            "role",
            not replicas,
            "takes writes"
            if not replicas
            else "a replica, which takes no writes; give the master, or Sentinel",
        ),
        StoreCheck(
            "eviction",
            policy == "noeviction",
            f"maxmemory-policy {policy}"
            + ("" if policy == "noeviction" else "; set noeviction, or budgets are forgotten"),
        ),
        StoreCheck(
            "persistence",
            not without_aof,
            "AOF is off; a restart forgets what was spent" if without_aof else "AOF is on",
        ),
        StoreCheck("scripts", refusal is None, refusal or "EVALSHA and EVAL work"),
        StoreCheck("speed", trip_ms < _SLOW_MS, f"{trip_ms:.2f} ms a trip"),
        StoreCheck("clock", abs(skew_ms) < _CLOCK_SKEW_MS, f"{skew_ms:+.0f} ms apart from this machine"),
    ]


async def _trip_ms(redis: Client) -> float:
    await redis.scard(WORKSPACES)  # it connects
    started = time.perf_counter()
    for _ in range(_TRIPS):
        await redis.scard(WORKSPACES)
    return (time.perf_counter() - started) * 1000 / _TRIPS


async def _refused_script(redis: Client) -> str | None:
    """Why scripts cannot run: proxies and hosted stores may block them, and so may an ACL."""
    nowhere = WorkspaceKeys("doctor")
    try:
        await scripts.snapshot(
            redis, [nowhere.state, nowhere.open, nowhere.journal], ["", nowhere.reservation_prefix]
        )
    except ResponseError as error:
        return f"the store, or a proxy before it, does not run our scripts: {error}"
    return None


def _worst_policy(servers: Iterable[Info]) -> str:
    policies = {str(info.get("maxmemory_policy", "unknown: the store does not say")) for info in servers}
    return min(policies, key=lambda policy: policy == "noeviction")


def _is_recent(info: Info) -> bool:
    return tuple(int(part) for part in str(info.get("redis_version", "0.0")).split(".")[:2]) >= _OLDEST_REDIS


def _versions(servers: list[Info]) -> str:
    names = {
        f"valkey {info['valkey_version']}"
        if info.get("server_name") == "valkey"
        else f"redis {info.get('redis_version', 'of an unknown version')}"
        for info in servers
    }
    old = "" if all(map(_is_recent, servers)) else "; 7.0 is the oldest that works"
    return ", ".join(sorted(names)) + (f", {len(servers)} servers" if len(servers) > 1 else "") + old


def _skew_ms(answer: tuple[int | bytes, int | bytes]) -> float:
    seconds, microseconds = answer
    return (time.time() - int(seconds) - int(microseconds) / 1e6) * 1000
