"""What the tests of the middlewares share: an open Governance, an app inside, a client, the journal."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import httpx
import msgspec
import pytest

from govmiddleware.app import Governance
from govmiddleware.core import ids
from govmiddleware.core.call import Call
from govmiddleware.settings import Settings
from govmiddleware.testing import ScriptedProvider

SECRET = "open sesame"

Record = dict[str, Any]


@pytest.fixture
def secret() -> str:
    """Of the API token `ci` in workspace acme, which every Governance here knows."""
    return SECRET


@pytest.fixture
async def governed(make_governance: Callable[..., Governance]) -> AsyncIterator[Callable[..., Any]]:
    """Makes an open Governance from settings as keywords: its prices, so that amounts are plain, are 1 USD
    a million input tokens and 2 USD of output for `m` and everything else that is not known."""
    async with AsyncExitStack() as stack:

        async def make(**settings: Any) -> Governance:
            given = {
                "api_tokens": [
                    {"name": "ci", "workspace": "acme", "sha256": ids.hash_api_token(SECRET), "role": "admin"}
                ],
                "prices": [
                    {
                        "model": "m*",
                        "input_usd_per_mtok": 1,
                        "output_usd_per_mtok": 2,
                        "max_output_tokens": 1000,
                    }
                ],
                **settings,
            }
            if "redis_url" in given:
                clock = given.pop("clock", None)
                return await stack.enter_async_context(Governance(Settings(**given), clock=clock))
            return await stack.enter_async_context(make_governance(**given))

        yield make


class Inside:
    """The app inside: a scripted provider that also keeps the Call of each request."""

    def __init__(self) -> None:
        self.provider = ScriptedProvider()
        self.calls: list[Call] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if "gov" in scope.get("state", {}):
            self.calls.append(scope["state"]["gov"])
        await self.provider(scope, receive, send)

    @property
    def reached(self) -> int:
        """How many requests came this far."""
        return len(self.provider.exchanges)

    @property
    def bodies(self) -> list[bytes]:
        return [exchange.raw_body for exchange in self.provider.exchanges]


@pytest.fixture
def inside() -> Inside:
    return Inside()


Post = Callable[..., Awaitable[httpx.Response]]


@pytest.fixture
def post() -> Post:
    """`await post(app, **fields of the chat request)`; `secret`, `headers`, `content`, `path` and `peer` if need be."""

    async def send(
        app: Any,
        *,
        secret: str | bytes | None = SECRET,
        headers: dict[str, str | bytes] | None = None,
        content: Any = None,
        path: str = "/v1/chat/completions",
        peer: tuple[str, int] = ("192.0.2.1", 40000),
        **fields: Any,
    ) -> httpx.Response:
        sent: dict[str, str | bytes] = {}
        if secret is not None:
            sent["authorization"] = b"Bearer " + (secret if isinstance(secret, bytes) else secret.encode())
        sent |= headers or {}
        if content is None:
            body = {"model": "m", "messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 100}
            content = msgspec.json.encode({**body, **fields})
        transport = httpx.ASGITransport(app, client=peer)
        async with httpx.AsyncClient(transport=transport, base_url="http://gov") as http:
            return await http.post(path, content=content, headers=sent)

    return send


@pytest.fixture
def journal() -> Callable[..., Awaitable[list[Record]]]:
    """The records of a workspace so far. Closes the Governance, so that what it has under way is done."""

    async def read(governance: Governance, workspace: str = "acme") -> list[Record]:
        await governance.close()
        async with governance.store():
            return [
                msgspec.json.decode(entry.record) | {"holds": {h.counter: h.amount for h in entry.holds}}
                async for entry in governance.journal.entries(workspace)
            ]

    return read
