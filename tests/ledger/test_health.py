"""What `doctor` says of a store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
from tests.stores.kinds import administrator

from govmiddleware.errors import StoreUnavailable
from govmiddleware.ledger.connection import connect
from govmiddleware.ledger.health import StoreCheck, eviction_policy, examine

if TYPE_CHECKING:
    from tests.ledger.conftest import Bench

Start = Callable[..., str]

FIT = ("--maxmemory-policy", "noeviction", "--appendonly", "yes")


async def examined(url: str) -> dict[str, StoreCheck]:
    redis = connect(url)
    try:
        return {check.check: check for check in await examine(redis)}
    finally:
        await redis.aclose()


async def test_of_every_kind_of_store_it_says_the_same(bench: Bench) -> None:
    checks = await examined(bench.url)
    assert list(checks) == ["version", "role", "eviction", "persistence", "scripts", "speed", "clock"]
    wrong = [check for check in checks.values() if not check.ok and check.check != "persistence"]
    assert wrong == []
    assert checks["scripts"].detail == "EVALSHA and EVAL work"
    assert await eviction_policy(bench.redis) == "noeviction"
    assert await bench.ledger.takes_writes()


async def test_a_server_that_is_fit_passes(start_valkey: Start) -> None:
    checks = await examined(start_valkey(*FIT))
    assert [check for check in checks.values() if not check.ok] == []
    assert checks["version"].detail.startswith("valkey 9.")


async def test_what_forgets_budgets_is_named_with_its_cure(start_valkey: Start) -> None:
    checks = await examined(start_valkey("--maxmemory-policy", "allkeys-lru"))
    assert {name for name, check in checks.items() if not check.ok} == {"eviction", "persistence"}
    assert (
        checks["eviction"].detail == "maxmemory-policy allkeys-lru; set noeviction, or budgets are forgotten"
    )
    assert checks["persistence"].detail == "AOF is off; a restart forgets what was spent"


async def test_a_replica_is_told_from_a_master(start_valkey: Start) -> None:
    url = start_valkey(*FIT)
    with administrator(url) as redis:
        redis.replicaof("127.0.0.1", 1)
    checks = await examined(url)
    assert not checks["role"].ok
    assert checks["role"].detail == "a replica, which takes no writes; give the master, or Sentinel"


async def test_a_store_that_blocks_scripts_is_found_out(start_valkey: Start) -> None:
    url = start_valkey(*FIT)
    with administrator(url) as redis:
        redis.acl_setuser("default", categories=["+@all", "-@scripting"], enabled=True)
    checks = await examined(url)
    assert not checks["scripts"].ok
    assert "does not run our scripts" in checks["scripts"].detail
    assert "evalsha" in checks["scripts"].detail


@asynccontextmanager
async def distant(url: str, *, seconds: float) -> AsyncIterator[str]:
    """The store at `url` behind a slow network."""

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(65536):
            await asyncio.sleep(seconds)
            writer.write(piece)
        writer.close()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await asyncio.open_connection("127.0.0.1", urlsplit(url).port)
        await asyncio.gather(carry(reader, there[1]), carry(there[0], writer))

    async with await asyncio.start_server(connected, "127.0.0.1") as server:
        yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_a_slow_store_is_found_out(start_valkey: Start) -> None:
    async with distant(start_valkey(*FIT), seconds=0.005) as url:
        checks = await examined(url)
    assert [name for name, check in checks.items() if not check.ok] == ["speed"]


async def test_a_store_that_cannot_be_reached_or_entered_is_said_so(start_valkey: Start) -> None:
    url = start_valkey(*FIT, "--requirepass", "s3cr3t")
    with pytest.raises(StoreUnavailable, match="Authentication required"):
        await examined(url)
    with pytest.raises(StoreUnavailable, match="ConnectionError"):
        await examined("redis://127.0.0.1:1")
    with pytest.raises(StoreUnavailable, match="No master found for 'books'"):
        await examined("redis+sentinel://127.0.0.1:1,127.0.0.1:2/books")
    with pytest.raises(StoreUnavailable, match="at least one reachable node"):
        await examined("redis+cluster://127.0.0.1:1,127.0.0.1:2")
