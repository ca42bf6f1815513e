"""Much traffic: a provider in a process of its own, and a client with many connections."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import httpx
from prometheus_client.parser import text_string_to_metric_families
from tests.sidecar.conftest import SECRET

BODY: dict[str, Any] = {
    "model": "gpt-4o-mini",
    "messages": [{"role": "user", "content": "Hello there"}],
    "max_tokens": 40,
}


@dataclass(frozen=True, slots=True)
class ProviderProcess:
    url: str
    process: subprocess.Popen[str]

    def account(self) -> dict[str, int]:
        """What it has answered, by its own count: requests, finished, errors, input_tokens, output_tokens."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        account: dict[str, int] = json.loads(self.process.stdout.readline())
        return account


@contextmanager
def run_provider(answers: int, *, one_error_in: int, interval: float = 0) -> Iterator[ProviderProcess]:
    """See `provider_process.py`. After `answers` requests it goes on with answers of the usual kind."""
    script = Path(__file__).with_name("provider_process.py")
    command = [sys.executable, str(script), str(answers), str(one_error_in), str(interval)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield ProviderProcess(process.stdout.readline().strip(), process)


@dataclass(frozen=True, slots=True)
class Call:
    """One request: of which user, and whether it streams."""

    user: str = "ann"
    stream: bool = False


def send_all(
    url: str, calls: Iterable[Call], *, connections: int, after_each: Callable[[int], None] = lambda _: None
) -> Counter[int]:
    """Send every call once, without a second try, on so many connections; how many got which status, 0 for
    none. `after_each` is told how many were sent so far."""
    statuses: Counter[int] = Counter()
    waiting = iter(calls)

    async def work(client: aiohttp.ClientSession) -> None:
        for call in waiting:
            headers = {"x-gov-user": call.user}
            body = BODY | {"stream": True} if call.stream else BODY
            try:
                async with client.post(f"{url}/v1/chat/completions", json=body, headers=headers) as answer:
                    whole = await answer.read()
                    if call.stream and answer.status == 200:
                        assert whole.endswith(b"data: [DONE]\n\n")
                    statuses[answer.status] += 1
            except aiohttp.ClientError:
                statuses[0] += 1
            after_each(statuses.total())

    async def run() -> None:
        connector = aiohttp.TCPConnector(limit=0)  # aiohttp sends no POST a second time
        headers = {"authorization": f"Bearer {SECRET}"}
        async with aiohttp.ClientSession(connector=connector, headers=headers) as client:
            await asyncio.gather(*(work(client) for _ in range(connections)))

    asyncio.run(run())
    return statuses


def _text(url: str) -> str:
    return httpx.get(url, verify=False).text


class Scrape:
    """What `/gov/metrics` says, on a connection of its own, so that any worker may be the one to answer."""

    def __init__(self, url: str) -> None:
        self._samples = [
            sample
            for family in text_string_to_metric_families(_text(f"{url}/gov/metrics"))
            for sample in family.samples
        ]

    def sum(self, name: str, **labels: str) -> float:
        """Of all samples with these labels."""
        return sum(
            sample.value
            for sample in self._samples
            if sample.name == f"govmiddleware_{name}" and labels.items() <= sample.labels.items()
        )
