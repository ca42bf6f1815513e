"""An app whose `/ask` calls Anthropic through the official anthropic SDK, asynchronous and synchronous."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import anthropic
import fastapi
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from tests.inside.books import read_books
from tests.inside.speaking import SAY, SCRIPT

from govmiddleware import govern
from govmiddleware.testing import Script, ScriptedProvider
from govmiddleware.testing.bell import Gate

MONTH = {"name": "month", "scope": "user", "meter": "cost_usd", "window": "month", "hard": 1}
MINUTE = {"name": "minute", "scope": "api_token", "meter": "requests", "rate": "1/minute"}


@pytest.fixture
def provider(provider: ScriptedProvider) -> ScriptedProvider:
    """It takes a key in `x-api-key` alone; the SDK sends it as `Authorization: Bearer`, and Anthropic takes both."""
    provider.api_key = None
    return provider


@pytest.fixture
async def claude(provider_url: str) -> AsyncIterator[Callable[..., anthropic.AsyncAnthropic]]:
    """Makes an SDK that sends through a transport."""
    made: list[anthropic.AsyncAnthropic] = []

    def make(transport: Any, **options: Any) -> anthropic.AsyncAnthropic:
        http = anthropic.DefaultAsyncHttpxClient(transport=transport)
        given = {"base_url": provider_url, "api_key": "sk-provider", "max_retries": 0, **options}
        made.append(anthropic.AsyncAnthropic(http_client=http, **given))
        return made[-1]

    yield make
    for client in made:
        await client.close()


def app_around(endpoint: Any) -> Starlette:
    return Starlette(routes=[Route("/ask", endpoint, methods=["POST"])])


@pytest.mark.parametrize("streams", [False, True])
async def test_what_an_ask_calls_is_metered_for_who_asked(
    governance_with, provider, claude, ask, streams
) -> None:
    governance = governance_with(limits=[MONTH])
    client = claude(governance.transport())

    async def endpoint(request: Request) -> Response:
        if streams:
            async with client.messages.stream(**SAY) as stream:
                return PlainTextResponse("".join([text async for text in stream.text_stream]))
        answer = await client.messages.create(**SAY)
        return PlainTextResponse(answer.content[0].text)

    answer = await ask(govern(app_around(endpoint), governance, paths=["/ask"]))
    assert answer.text == provider.script.text
    assert provider.exchanges[0].header(b"authorization") == b"Bearer sk-provider"
    inner, outer = await read_books(governance)
    assert inner["parent_request_id"] == outer["request_id"]
    assert (inner["protocol"], inner["user"]) == ("anthropic.messages", "ann")
    assert (inner["settlement"], inner["cost_usd"]) == ("exact", "0.000020000")


async def test_synchronous_endpoints_use_synchronous_clients(
    governance_with, provider, provider_url, ask
) -> None:
    governance = governance_with()
    http = anthropic.DefaultHttpxClient(transport=governance.transport())
    app = fastapi.FastAPI()
    with anthropic.Anthropic(base_url=provider_url, api_key="sk-provider", http_client=http) as client:

        @app.post("/ask")
        def endpoint() -> str:
            with client.messages.stream(**SAY) as stream:
                return "".join(stream.text_stream)

        assert (await ask(govern(app, governance, paths=["/ask"]))).json() == provider.script.text
    inner, outer = await read_books(governance)
    assert (inner["parent_request_id"], inner["settlement"]) == (outer["request_id"], "exact")


async def test_a_budget_refuses_as_anthropic_would(governance_with, provider, claude) -> None:
    governance = governance_with(limits=[MONTH | {"hard": 0}])
    client = claude(governance.transport(principal=SCRIPT), max_retries=3)
    with pytest.raises(anthropic.APIStatusError, match="'month'") as refused:
        await client.messages.create(**SAY)
    assert (refused.value.status_code, refused.value.type) == (402, "billing_error")
    assert provider.exchanges == []
    assert [record["outcome"] for record in await read_books(governance)] == ["insufficient_quota"]


async def test_a_rate_limit_refuses_as_anthropic_would(governance_with, provider, claude) -> None:
    governance = governance_with(limits=[MINUTE])
    client = claude(governance.transport(principal=SCRIPT))
    await client.messages.create(**SAY)
    with pytest.raises(anthropic.RateLimitError) as refused:
        await client.messages.create(**SAY)
    assert refused.value.type == "rate_limit_error"
    assert refused.value.response.headers["anthropic-ratelimit-requests-limit"] == "1"
    assert len(provider.exchanges) == 1


async def test_a_stream_that_is_left_is_charged_what_was_delivered(governance_with, provider, claude) -> None:
    gate = Gate()
    provider.script = Script(gate=gate)
    governance = governance_with(limits=[MONTH])
    client = claude(governance.transport(principal=SCRIPT))
    gate.let(5)
    async with client.messages.stream(**SAY) as stream:
        assert await anext(aiter(stream.text_stream))
    await provider.until(lambda: provider.exchanges[0].disconnected_at is not None)
    [record] = await read_books(governance)
    assert (record["settlement"], record["outcome"]) == ("aborted", "aborted")
    assert 0 < record["usage"]["output_tokens"] < 9
