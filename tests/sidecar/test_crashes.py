"""What a crash leaves behind: nothing reserved, nothing forgiven, books that balance."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import aiohttp
import pytest
from redis import Redis
from tests.sidecar.books import Books
from tests.sidecar.conftest import SECRET
from tests.sidecar.processes import SidecarProcess, govmiddleware, serve_processes

from govmiddleware.core.ids import hash_api_token
from govmiddleware.core.tokens import count_tokens
from govmiddleware.testing import Script, ScriptedProvider
from govmiddleware.testing.bell import Gate

LEASE_SECONDS, SWEEP_SECONDS = 2, 1
STREAMS = 50
TEXT = " ".join(f"word{n}" for n in range(20))
BODY = {
    "model": "gpt-4o-mini",
    "messages": [{"role": "user", "content": "Hello"}],
    "max_tokens": 99,
    "stream": True,
}
HEADERS = {"authorization": f"Bearer {SECRET}"}


@pytest.fixture
def config(tmp_path: Path, gov_store: str, gov_provider: tuple[ScriptedProvider, str]) -> Path:
    path = tmp_path / "govmiddleware.toml"
    path.write_text(
        f"""
        upstream = "{gov_provider[1]}"
        redis_url = "{gov_store}"
        lease_seconds = {LEASE_SECONDS}
        sweep_seconds = {SWEEP_SECONDS}
        [[api_tokens]]
        name = "ci"
        workspace = "acme"
        sha256 = "{hash_api_token(SECRET)}"
        [[limits]]
        name = "month"
        scope = "workspace"
        meter = "cost_usd"
        window = "month"
        hard = 10
        [[limits]]
        name = "slots"
        scope = "api_token"
        meter = "concurrency"
        hard = 1000
        """
    )
    return path


@pytest.fixture
def two_sidecars(config: Path) -> Iterator[list[SidecarProcess]]:
    with serve_processes(config, 2) as sidecars:
        yield sidecars


def test_after_kill_9_nothing_stays_reserved_and_what_was_delivered_is_charged(
    two_sidecars: list[SidecarProcess],
    config: Path,
    gov_store: str,
    gov_provider: tuple[ScriptedProvider, str],
) -> None:
    provider, _ = gov_provider
    gate = Gate()
    provider.script = Script(text=TEXT, pieces=20, gate=gate)
    doomed, _survivor = two_sidecars
    books = Books(gov_store)

    async def stream_until_killed() -> list[bytes]:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), headers=HEADERS) as client:
            received = [bytearray() for _ in range(STREAMS)]

            async def read(into: bytearray) -> None:
                try:
                    async with client.post(f"{doomed.url}/v1/chat/completions", json=BODY) as answer:
                        async for chunk in answer.content.iter_any():
                            into += chunk
                except aiohttp.ClientError:
                    pass

            reading = [asyncio.create_task(read(into)) for into in received]
            await provider.until(lambda: len(provider.exchanges) == STREAMS)
            gate.let(6 * STREAMS)
            await provider.until(lambda: sum(each.chunks_sent for each in provider.exchanges) == 6 * STREAMS)
            assert books_open() == STREAMS
            doomed.kill()
            await asyncio.gather(*reading)
            return [bytes(into) for into in received]

    def books_open() -> int:
        with Redis.from_url(gov_store) as redis:
            return redis.zcard("gov:{acme}:open")

    received = asyncio.run(stream_until_killed())
    killed = time.monotonic()
    while books_open() and time.monotonic() < killed + LEASE_SECONDS + SWEEP_SECONDS + 1:
        time.sleep(0.05)
    assert books_open() == 0

    outcomes = books.records()
    assert len(outcomes) == STREAMS
    assert {record.settlement for record in outcomes} == {"expired"}
    delivered = [
        count_tokens([word for word in TEXT.split() if f"{word}".encode() in got]) for got in received
    ]
    assert sum(record.usage.output_tokens for record in outcomes if record.usage) >= sum(delivered) > 0
    assert sum(Decimal(record.cost_usd or 0) for record in outcomes) > 0
    audit = subprocess.run(govmiddleware("audit", "--config", str(config)), capture_output=True, check=False)
    assert audit.returncode == 0, audit.stdout + audit.stderr


def test_a_script_flush_under_load_fails_no_request(
    two_sidecars: list[SidecarProcess], gov_store: str, gov_provider: tuple[ScriptedProvider, str]
) -> None:
    sidecar, _ = two_sidecars
    provider, _ = gov_provider
    over = asyncio.Event()

    async def flush(redis: Redis) -> None:
        while not over.is_set():
            redis.script_flush()
            await asyncio.sleep(0.002)

    async def load() -> list[int]:
        async with aiohttp.ClientSession(headers=HEADERS) as client:

            async def calls() -> list[int]:
                statuses = []
                for _ in range(30):
                    async with client.post(f"{sidecar.url}/v1/chat/completions", json=BODY) as answer:
                        await answer.read()
                        statuses.append(answer.status)
                return statuses

            with Redis.from_url(gov_store) as redis:
                flushing = asyncio.create_task(flush(redis))
                statuses = [
                    status for each in await asyncio.gather(*(calls() for _ in range(10))) for status in each
                ]
                over.set()
                await flushing
        return statuses

    assert set(asyncio.run(load())) == {200}
    assert len(provider.exchanges) == 300
    books = Books(gov_store)
    assert books.audit().ok
