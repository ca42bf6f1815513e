"""What the tests of calls from inside share: a provider on a real server, an app whose `/ask` calls it, its books."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import httpx
import httpx2
import msgspec
import openai
import pytest

from govmiddleware import Governance, Principal
from govmiddleware.core import ids
from govmiddleware.services.audit import audit
from govmiddleware.testing import ScriptedProvider, serve_in_thread

Record = dict[str, Any]

SCRIPT = Principal(workspace="acme", api_token="nightly")
"""Who calls where no request runs."""


@pytest.fixture(scope="session")
def provider_place() -> Iterator[tuple[str, Callable[[ScriptedProvider], None]]]:
    """The URL of a server, and a function that puts a provider there."""
    inside: list[ScriptedProvider] = [ScriptedProvider()]

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await inside[0](scope, receive, send)

    def put(provider: ScriptedProvider) -> None:
        inside[0] = provider

    with serve_in_thread(app) as server:
        yield server.url, put


@pytest.fixture
def provider(provider_place: tuple[str, Callable[[ScriptedProvider], None]]) -> ScriptedProvider:
    fresh = ScriptedProvider(api_key="sk-provider")
    provider_place[1](fresh)
    return fresh


@pytest.fixture
def provider_url(provider_place: tuple[str, Callable[[ScriptedProvider], None]]) -> str:
    return provider_place[0]


def settings(**more: Any) -> dict[str, Any]:
    """Prices so that amounts are plain: 1 USD a million input tokens and 2 USD of output for `m` and its like."""
    token = {"name": "ci", "workspace": "acme", "sha256": ids.hash_api_token("open sesame")}
    price = {"model": "m*", "input_usd_per_mtok": 1, "output_usd_per_mtok": 2, "max_output_tokens": 1000}
    return {"api_tokens": [token], "prices": [price], **more}


@pytest.fixture
async def governance_with(
    make_governance: Callable[..., Governance],
) -> AsyncIterator[Callable[..., Governance]]:
    """Makes a Governance, which opens itself when it is first used, and is closed at the end."""
    made: list[Governance] = []

    def make(**more: Any) -> Governance:
        made.append(make_governance(**settings(**more)))
        return made[-1]

    yield make
    for governance in made:
        await governance.close()


@pytest.fixture
def ask() -> Callable[..., Awaitable[httpx.Response]]:
    """`await ask(app)`: a request of user ann to `/ask`."""

    async def send(app: Any, path: str = "/ask", **options: Any) -> httpx.Response:
        headers = {"authorization": "Bearer open sesame", "x-gov-user": "ann", "x-gov-session": "s1"}
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://app") as http:
            return await http.post(path, headers=headers, **options)

    return send


async def read_books(governance: Governance) -> list[Record]:
    """All records of the workspace, with their holds, from a Governance that is closed for that; the books balance."""
    await governance.close()
    async with governance.store():
        findings = await audit(governance.journal)
        assert findings.differences == []
        assert await governance.journal.open_reservations("acme") == []
        return [
            msgspec.json.decode(entry.record) | {"holds": {h.counter: h.amount for h in entry.holds}}
            async for entry in governance.journal.entries("acme")
        ]


class Speaker:
    """The openai SDK on one of its HTTP clients. A synchronous one speaks in a thread."""

    def __init__(self, client: openai.OpenAI | openai.AsyncOpenAI) -> None:
        self.client: Any = client

    async def say(self, **fields: Any) -> Any:
        """A chat completion; `raw` for the HTTP response around it."""
        completions = self.client.chat.completions
        create = completions.with_raw_response.create if fields.pop("raw", False) else completions.create
        return await self.do(create, **(SAY | fields))

    async def do(self, method: Callable[..., Any], *arguments: Any, **fields: Any) -> Any:
        if isinstance(self.client, openai.AsyncOpenAI):
            return await method(*arguments, **fields)
        return await asyncio.to_thread(method, *arguments, **fields)

    async def chunks(self, stream: Any) -> AsyncIterator[Any]:
        """What is left of a stream."""
        pieces = aiter(stream) if isinstance(self.client, openai.AsyncOpenAI) else iter(stream)
        while True:
            if isinstance(self.client, openai.AsyncOpenAI):
                piece = await anext(pieces, None)
            else:
                piece = await asyncio.to_thread(next, pieces, None)
            if piece is None:
                return
            yield piece


SAY = {"model": "m", "messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 100}
CLIENTS: dict[str, Callable[..., Any]] = {
    "httpx2, asynchronous": httpx2.AsyncClient,
    "httpx2, synchronous": httpx2.Client,
    "httpx, asynchronous": httpx.AsyncClient,
    "httpx, synchronous": httpx.Client,
}


@pytest.fixture
async def speaker_on(provider: ScriptedProvider, provider_url: str) -> AsyncIterator[Callable[..., Speaker]]:
    """Makes an openai SDK that sends through a transport, by the name of its HTTP client."""
    made: list[Speaker] = []

    def make(kind: str, transport: Any, **options: Any) -> Speaker:
        http = CLIENTS[kind](transport=transport)
        sdk: Any = openai.OpenAI if kind.endswith(" synchronous") else openai.AsyncOpenAI
        given = {"base_url": f"{provider_url}/v1", "api_key": "sk-provider", "max_retries": 0, **options}
        made.append(Speaker(sdk(http_client=http, **given)))
        return made[-1]

    yield make
    for speaker in made:
        await speaker.do(speaker.client.close)


@pytest.fixture(params=list(CLIENTS))
def kind(request: pytest.FixtureRequest) -> str:
    """Of HTTP client."""
    return str(request.param)
