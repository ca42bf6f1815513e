"""Two sidecars on one store: a hard limit is one limit, however many share it and however they race."""

from __future__ import annotations

import asyncio
import json
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest
from redis import Redis
from tests.sidecar.conftest import SECRET
from tests.sidecar.processes import serve_processes

from govmiddleware.core.body import RequestBody
from govmiddleware.core.demand import Bound
from govmiddleware.core.estimate import input_bound, input_estimate
from govmiddleware.core.ids import hash_api_token
from govmiddleware.core.money import usd_text
from govmiddleware.core.prices import PriceBook
from govmiddleware.core.tokens import count_tokens, encoding_for
from govmiddleware.protocols.openai_chat import OpenAIChat
from govmiddleware.testing import Script, ScriptedProvider

BODY = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello there"}], "max_tokens": 40}
HEADERS = {"authorization": f"Bearer {SECRET}", "x-gov-user": "ann"}
REQUESTS = 100


@dataclass(frozen=True, slots=True)
class Race:
    """200 concurrent requests at two sidecars on one store, under one limit; the upstream takes 0.3 s and
    uses all that was reserved. `highest` is the most that was spent and reserved at any moment."""

    codes: Counter[str]
    served: int
    highest: int


@pytest.fixture
def run_race(
    tmp_path: Path, gov_store: str, gov_provider: tuple[ScriptedProvider, str]
) -> Callable[..., Race]:
    provider, upstream = gov_provider
    bound = _bound()
    usage = {"prompt_tokens": bound.input_tokens, "completion_tokens": bound.output_tokens}
    provider.script = Script(delay=0.3, usage=usage)

    def run(limit: str, workers: int = 1) -> Race:
        config = tmp_path / "govmiddleware.toml"
        config.write_text(
            f"""
            upstream = "{upstream}"
            redis_url = "{gov_store}"
            [[api_tokens]]
            name = "ci"
            workspace = "acme"
            sha256 = "{hash_api_token(SECRET)}"
            [[limits]]
            name = "limit"
            {limit}
            """
        )
        with ExitStack() as running:
            urls = [
                sidecar.url for sidecar in running.enter_context(serve_processes(config, 2, workers=workers))
            ]
            watch = running.enter_context(Watch(gov_store))
            codes = asyncio.run(_race(urls))
        return Race(codes, len(provider.exchanges), watch.highest)

    return run


def _bound() -> Bound:
    """What one call of BODY reserves."""
    info = OpenAIChat().read_request(RequestBody(json.dumps(BODY).encode()))
    estimate = input_estimate(info, count_tokens(info.texts, encoding=encoding_for(info.model)), 0)
    input_tokens = input_bound(estimate, info.model)
    price = PriceBook(()).find(info.model)
    assert price is not None
    return Bound(input_tokens, 40, price.worst_cost(input_tokens, 40))


async def _race(urls: list[str]) -> Counter[str]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), headers=HEADERS) as client:

        async def call(url: str) -> str:
            async with client.post(f"{url}/v1/chat/completions", json=BODY) as answer:
                body = await answer.json()
                return "ok" if answer.status == 200 else str(body["error"]["code"])

        return Counter(await asyncio.gather(*(call(urls[n % 2]) for n in range(REQUESTS))))


class Watch:
    """Samples used + reserved of the one counter, every 2 ms while the block runs."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._sample)
        self.highest = 0

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _sample(self) -> None:
        with Redis.from_url(self._url) as redis:
            while not self._over.wait(0.002):
                for key in redis.keys("gov:{acme}:c:*"):
                    amounts = [
                        int(value)
                        for name, value in redis.hgetall(key).items()
                        if name[1:] and name[:1] in b"ur"
                    ]
                    self.highest = max(self.highest, sum(amounts))


def test_thirty_a_minute_lets_exactly_thirty_pass(run_race: Callable[..., Race]) -> None:
    race = run_race("scope = 'api_token'\nmeter = 'requests'\nrate = '30/minute'")
    assert race == Race(Counter(ok=30, rate_limit_exceeded=REQUESTS - 30), served=30, highest=30)


def test_two_workers_in_each_of_two_replicas_let_exactly_thirty_pass(run_race: Callable[..., Race]) -> None:
    race = run_race("scope = 'api_token'\nmeter = 'requests'\nrate = '30/minute'", workers=2)
    assert race == Race(Counter(ok=30, rate_limit_exceeded=REQUESTS - 30), served=30, highest=30)


def test_a_budget_worth_twenty_bounds_lets_exactly_twenty_pass(run_race: Callable[..., Race]) -> None:
    hard = 20 * _bound().cost
    race = run_race(f"scope = 'user'\nmeter = 'cost_usd'\nwindow = 'month'\nhard = {usd_text(hard)}")
    assert race == Race(Counter(ok=20, insufficient_quota=REQUESTS - 20), served=20, highest=hard)


def test_tokens_a_minute_worth_twenty_bounds_let_exactly_twenty_pass(run_race: Callable[..., Race]) -> None:
    hard = 20 * (_bound().input_tokens + 40)
    race = run_race(f"scope = 'workspace'\nmeter = 'total_tokens'\nrate = '{hard}/minute'")
    assert race == Race(Counter(ok=20, rate_limit_exceeded=REQUESTS - 20), served=20, highest=hard)


def test_a_providers_budget_worth_twenty_bounds_lets_exactly_twenty_pass(
    run_race: Callable[[str], Race],
) -> None:
    hard = 20 * _bound().cost
    race = run_race(
        f"scope = 'provider'\nvalue = 'default'\nmeter = 'cost_usd'\nwindow = 'month'\nhard = {usd_text(hard)}"
    )
    assert race == Race(Counter(ok=20, insufficient_quota=REQUESTS - 20), served=20, highest=hard)
