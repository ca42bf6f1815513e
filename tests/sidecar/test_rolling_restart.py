"""Replicas behind a load balancer are restarted one after the other under load, and no client notices.

Each is restarted once, or as often as it takes until `GOV_SOAK_SECONDS` have passed.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import httpx
import pytest
from tests.sidecar.balancer import Balancer
from tests.sidecar.books import Books
from tests.sidecar.conftest import SECRET
from tests.sidecar.load import BODY, ProviderProcess, run_provider
from tests.sidecar.processes import SidecarProcess, end, free_port, start, wait_until_ready

from govmiddleware.core.ids import hash_api_token

SECONDS = float(os.environ.get("GOV_SOAK_SECONDS", "0"))
STREAM = BODY | {"stream": True, "stream_options": {"include_usage": True}}
INTERVAL = 0.35
"""Seconds between the chunks of a stream, of which there are nine: it lasts longer than the quiet that ends a drain."""
DELAYED = "--drain-delay-seconds", "4"


@pytest.fixture
def provider() -> Iterator[ProviderProcess]:
    answers = 10_000 + round(100 * SECONDS)
    with run_provider(answers, one_error_in=answers + 1, interval=INTERVAL) as provider:
        yield provider


@pytest.fixture
def config(tmp_path: Path, gov_store: str, provider: ProviderProcess) -> Path:
    path = tmp_path / "govmiddleware.toml"
    path.write_text(
        f"""
        upstream = "{provider.url}"
        redis_url = "{gov_store}"
        [[api_tokens]]
        name = "ci"
        workspace = "acme"
        sha256 = "{hash_api_token(SECRET)}"
        [[limits]]
        name = "month"
        scope = "workspace"
        meter = "cost_usd"
        window = "month"
        hard = 1000
        """
    )
    return path


@dataclass
class Clients:
    """They send every call once, and keep books of what was answered."""

    url: str
    enough: asyncio.Event = field(default_factory=asyncio.Event)
    failures: Counter[str] = field(default_factory=Counter)
    account: Counter[str] = field(default_factory=Counter)

    async def run(self) -> None:
        """Until it is enough: on connections that are kept, on a new one for each call, and with streams."""
        async with asyncio.TaskGroup() as clients:
            for _ in range(2):
                clients.create_task(self._go_on(BODY))
                clients.create_task(self._go_on(BODY, keeps=False))
                clients.create_task(self._go_on(STREAM))

    async def _go_on(self, body: dict[str, object], *, keeps: bool = True) -> None:
        async with session(force_close=not keeps) as client:
            while not self.enough.is_set():
                try:
                    await self.note(await client.post(f"{self.url}/v1/chat/completions", json=body))
                except aiohttp.ClientError as error:
                    self.failures[repr(error)] += 1
                await asyncio.sleep(0.2)

    async def note(self, answer: aiohttp.ClientResponse) -> None:
        body = await answer.read()
        if answer.status != 200:
            self.failures[str(answer.status)] += 1
            return
        if answer.content_type == "text/event-stream":
            *_, body, done, _ = body.replace(b"data: ", b"").split(b"\n\n")
            assert done == b"[DONE]"
        usage = json.loads(body)["usage"]
        self.account["requests"] += 1
        self.account["input_tokens"] += usage["prompt_tokens"]
        self.account["output_tokens"] += usage["completion_tokens"]


@asynccontextmanager
async def session(*, force_close: bool) -> AsyncIterator[aiohttp.ClientSession]:
    connector = aiohttp.TCPConnector(force_close=force_close)  # aiohttp sends no POST a second time
    headers = {"authorization": f"Bearer {SECRET}"}
    async with aiohttp.ClientSession(connector=connector, headers=headers) as client:
        yield client


class Replica:
    """A sidecar that can be started again on its port."""

    def __init__(self, config: Path, *flags: str) -> None:
        self.port = free_port()
        self._start = config, self.port, config.with_suffix(f".{self.port}.log"), *flags
        self.sidecar: SidecarProcess = start(*self._start)

    def is_ready(self) -> bool:
        return httpx.get(f"{self.sidecar.url}/gov/readyz").status_code == 200

    async def restart(self, balancer: Balancer, clients: Clients, *, is_noticed: Callable[[], bool]) -> None:
        """As an orchestrator does. The balancer goes on connecting until it has noticed; a stream is open all the
        while."""
        async with session(force_close=True) as client:
            url = f"{self.sidecar.url}/v1/chat/completions"
            stream = await client.post(url, json=STREAM)
            self.sidecar.process.terminate()
            while not await asyncio.to_thread(is_noticed):
                await asyncio.sleep(0.1)
            balancer.endpoints.remove(self.port)
            await clients.note(stream)
        assert await asyncio.to_thread(self.sidecar.process.wait, 30) == 0
        self.sidecar = start(*self._start)
        await asyncio.to_thread(wait_until_ready, self.sidecar)
        balancer.endpoints.append(self.port)


@pytest.mark.timeout(300 + 2 * SECONDS)
def test_a_rolling_restart_under_load_fails_no_request_and_loses_no_usage(
    config: Path, provider: ProviderProcess, gov_store: str
) -> None:
    replicas = Replica(config, *DELAYED), Replica(config)
    try:
        clients = asyncio.run(_restart(*replicas))
    finally:
        for replica in replicas:
            end(replica.sidecar.process)
    assert clients.failures == {}
    account, books = provider.account(), Books(gov_store)
    usage = books.usage()
    assert clients.account == {name: account[name] for name in clients.account}
    assert clients.account == {name: usage[name] for name in clients.account}
    assert len({record.request_id for record in books.records()}) == account["finished"] == usage["requests"]
    assert books.open_reservations() == 0
    assert books.audit().ok


async def _restart(delayed: Replica, prompt: Replica) -> Clients:
    """One after the other. One goes on taking connections while readiness says no, and refuses none; one leaves at
    once, and is noticed by what it refuses."""
    for replica in (delayed, prompt):
        await asyncio.to_thread(wait_until_ready, replica.sidecar)
    deadline = time.monotonic() + SECONDS
    async with Balancer([delayed.port, prompt.port]) as balancer:
        clients = Clients(balancer.url)
        load = asyncio.create_task(clients.run())
        while True:
            balancer.refused = 0
            await delayed.restart(balancer, clients, is_noticed=lambda: not delayed.is_ready())
            assert balancer.refused == 0
            await prompt.restart(balancer, clients, is_noticed=lambda: balancer.refused > 0)
            if time.monotonic() >= deadline:
                break
        clients.enough.set()
        await load
    return clients
