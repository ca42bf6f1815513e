"""The official openai SDK on each HTTP client that it takes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import httpx2
import openai

from govmiddleware import Principal

SCRIPT = Principal(workspace="acme", api_token="nightly")
"""Who calls where no request runs."""


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
