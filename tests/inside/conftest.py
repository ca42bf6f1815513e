"""What the tests of calls from inside share: a provider on a real server, an app whose `/ask` calls it, its books."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import httpx
import openai
import pytest
from tests.inside.speaking import CLIENTS, Speaker

from govmiddleware import Governance
from govmiddleware.core import ids
from govmiddleware.testing import ScriptedProvider, serve_in_thread


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

    async def send(
        app: Any, path: str = "/ask", headers: dict[str, str] | None = None, **options: Any
    ) -> httpx.Response:
        caller = {"authorization": "Bearer open sesame", "x-gov-user": "ann", "x-gov-session": "s1"}
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://app") as http:
            return await http.post(path, headers=caller | (headers or {}), **options)

    return send


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
