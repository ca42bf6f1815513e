"""How a stream ended inside a host app, where no forwarder tells."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from govmiddleware.app import Governance

BODY = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 9, "stream": True}
CHUNK = b'data: {"choices": [{"index": 0, "delta": {"content": "word"}}]}\n\n'


async def stream(app: ASGIApp, secret: str, send: Callable[[Message], Awaitable[None]]) -> None:
    """A request to the app, on a server that sends like this."""
    sent = [{"type": "http.request", "body": msgspec.json.encode(BODY), "more_body": False}]

    async def receive() -> Any:
        return sent.pop() if sent else await asyncio.Event().wait()

    headers = [(b"authorization", f"Bearer {secret}".encode())]
    path = "/v1/chat/completions"
    scope = {"type": "http", "method": "POST", "path": path, "query_string": b"", "headers": headers}
    await app({**scope, "client": ("192.0.2.1", 1)}, receive, send)


async def two_chunks(scope: Scope, receive: Receive, send: Send) -> None:
    """The app inside: it says half of what it would."""
    headers = [(b"content-type", b"text/event-stream")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    for _ in range(2):
        await send({"type": "http.response.body", "body": CHUNK, "more_body": True})
    raise RuntimeError("out of words")


def ends(governance: Governance) -> dict[str, float]:
    """How many streams ended how."""
    [family] = [
        each for each in governance.metrics.registry.collect() if each.name == "govmiddleware_streams"
    ]
    return {each.labels["end"]: each.value for each in family.samples if each.name.endswith("_total")}


async def test_an_app_that_raises_has_cut_its_stream(governed: Any, secret: str) -> None:
    governance = await governed()

    async def send(message: Message) -> None:
        pass

    with pytest.raises(RuntimeError, match="out of words"):
        await stream(governance.stack(two_chunks), secret, send)
    assert ends(governance) == {"upstream_cut": 1}


async def test_a_server_that_cannot_send_has_lost_its_client(governed: Any, secret: str) -> None:
    """ASGI 2.4 lets `send` raise an OSError then."""
    governance = await governed()
    chunks = []

    async def send(message: Message) -> None:
        if chunks:
            raise OSError("nobody listens")
        chunks.extend([message["body"]] if "body" in message else [])

    with pytest.raises(OSError, match="nobody listens"):
        await stream(governance.stack(two_chunks), secret, send)
    assert ends(governance) == {"client_left": 1}
