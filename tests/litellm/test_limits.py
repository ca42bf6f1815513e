"""Limits in front of LiteLLM let exactly so many calls pass, however they race."""

from __future__ import annotations

import asyncio
from collections import Counter
from decimal import Decimal
from typing import Any

import aiohttp
import httpx
import pytest
from tests.litellm.conftest import SECRET, Gateway

from govmiddleware.testing import Script, ScriptedProvider

BODY = {"model": "gpt-3.5-turbo", "messages": [{"role": "user", "content": "Hello there"}], "max_tokens": 40}
REQUESTS = 100


@pytest.mark.parametrize(
    ("user", "code"),
    [
        ("frequent", "rate_limit_exceeded"),
        ("talkative", "rate_limit_exceeded"),
        ("poor", "insufficient_quota"),
    ],
)
def test_exactly_so_many_calls_pass_as_the_limit_is_worth(
    gateway: Gateway, provider: ScriptedProvider, user: str, code: str
) -> None:
    bound = _bound(gateway)
    worth = {
        "frequent": 12,
        "talkative": 900 // (bound["input_tokens"] + bound["output_tokens"]),
        "poor": int(Decimal("0.001") // Decimal(bound["cost_usd"])),
    }[user]
    assert 10 < worth < 30
    provider.exchanges.clear()
    usage = {"prompt_tokens": bound["input_tokens"], "completion_tokens": bound["output_tokens"]}
    provider.script = Script(delay=0.5, usage=usage)  # all that was reserved is used

    assert asyncio.run(_race(gateway.url, user)) == Counter({"ok": worth, code: REQUESTS - worth})
    assert len(provider.exchanges) == worth
    spent = [record for record in gateway.books.records() if record.user == user]
    assert {(record.settlement, record.cost_usd) for record in spent} == {("exact", bound["cost_usd"])}


def _bound(gateway: Gateway) -> dict[str, Any]:
    """What one call of BODY reserves, as the journal says of one by a user without limits."""
    headers = {"authorization": f"Bearer {SECRET}", "x-gov-user": "someone"}
    answer = httpx.post(f"{gateway.url}/v1/chat/completions", json=BODY, headers=headers)
    bound = gateway.record(answer.headers).bound
    assert bound is not None
    return bound


async def _race(url: str, user: str) -> Counter[str]:
    headers = {"authorization": f"Bearer {SECRET}", "x-gov-user": user}
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), headers=headers) as client:

        async def call() -> str:
            async with client.post(f"{url}/v1/chat/completions", json=BODY) as answer:
                body = await answer.json()
                return "ok" if answer.status == 200 else str(body["error"]["code"])

        return Counter(await asyncio.gather(*(call() for _ in range(REQUESTS))))
