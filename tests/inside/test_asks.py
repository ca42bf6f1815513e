"""An app whose `/ask` calls a provider through the official SDKs."""

from __future__ import annotations

from typing import Any

import openai
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from tests.inside.books import read_books

from govmiddleware import govern

DAY = {"name": "day", "scope": "user", "meter": "requests", "window": "day", "hard": 100}
MONTH = {"name": "month", "scope": "user", "meter": "cost_usd", "window": "month", "hard": 1}
MODELS = {"name": "models", "scope": "model", "meter": "requests", "window": "day", "hard": 100}
HELLO: Any = [{"role": "user", "content": "Say hello."}]


def asking(client: openai.AsyncOpenAI, **options: Any) -> Starlette:
    async def ask(request: Request) -> Response:
        answer = await client.chat.completions.create(model="m", messages=HELLO, max_tokens=100, **options)
        return JSONResponse({"answer": answer.choices[0].message.content})

    return Starlette(routes=[Route("/ask", ask, methods=["POST"])])


async def test_what_ask_calls_is_metered_for_who_asked(governance_with, provider, provider_url, ask) -> None:
    governance = governance_with(limits=[DAY, MONTH, MODELS])
    http = openai.DefaultAsyncHttpxClient(transport=governance.transport())
    async with openai.AsyncOpenAI(
        base_url=f"{provider_url}/v1", api_key="sk-provider", http_client=http
    ) as client:
        answer = await ask(govern(asking(client), governance, paths=["/ask"]))
    assert answer.json() == {"answer": provider.script.text}
    inner, outer = await read_books(governance)
    assert inner["parent_request_id"] == outer["request_id"] == answer.headers["x-gov-request-id"]
    assert outer["parent_request_id"] is None
    assert (inner["protocol"], outer["protocol"]) == ("openai.chat", "unrecognised")
    assert (inner["settlement"], inner["cost_usd"]) == ("exact", "0.000020000")
    assert (inner["user"], inner["session"], inner["api_token"]) == ("ann", "s1", "ci")
