"""Pass-through proxies without governance, as apps for uvicorn: what the whole is measured against.

`UPSTREAM` says where to; `PROXY` which one it is: `bare-aiohttp` and `bare-httpx` are the least that a Python proxy can
do, `forwarder-aiohttp` and `forwarder-httpx` are our own Forwarder alone.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from typing import Literal

import aiohttp
import httpx
from starlette.types import ASGIApp, Receive, Scope, Send

from govmiddleware.core.call import Call
from govmiddleware.protocols.registry import recognise
from govmiddleware.upstream import Forwarder, open_client

UPSTREAM = os.environ.get("UPSTREAM", "")
NOT_SENT_ON = {b"host", b"content-length", b"connection", b"transfer-encoding"}
NOT_RELAYED = {b"connection", b"transfer-encoding"}


async def body_of(receive: Receive) -> bytes:
    pieces, more = [], True
    while more:
        message = await receive()
        pieces.append(message.get("body", b""))
        more = message.get("more_body", False)
    return b"".join(pieces)


def sent_on(scope: Scope) -> list[tuple[str, str]]:
    return [
        (name.decode("latin-1"), value.decode("latin-1"))
        for name, value in scope["headers"]
        if name not in NOT_SENT_ON
    ]


async def relay(
    send: Send, status: int, headers: list[tuple[bytes, bytes]], chunks: AsyncIterator[bytes]
) -> None:
    kept = [(name.lower(), value) for name, value in headers if name.lower() not in NOT_RELAYED]
    await send({"type": "http.response.start", "status": status, "headers": kept})
    async for chunk in chunks:
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


class BareAiohttp:
    """aiohttp with nothing around it."""

    async def start(self) -> None:
        connector = aiohttp.TCPConnector(limit=0)
        self.session = aiohttp.ClientSession(
            connector=connector, auto_decompress=False, timeout=aiohttp.ClientTimeout(total=None)
        )

    async def stop(self) -> None:
        await self.session.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await body_of(receive)
        async with self.session.request(
            scope["method"], UPSTREAM + scope["path"], data=body, headers=sent_on(scope)
        ) as answer:
            await relay(send, answer.status, list(answer.raw_headers), answer.content.iter_any())


class BareHttpx:
    """httpx with nothing around it."""

    async def start(self) -> None:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
        self.client = httpx.AsyncClient(limits=limits, timeout=None)

    async def stop(self) -> None:
        await self.client.aclose()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await body_of(receive)
        async with self.client.stream(
            scope["method"], UPSTREAM + scope["path"], content=body, headers=sent_on(scope)
        ) as answer:
            await relay(send, answer.status_code, answer.headers.raw, answer.aiter_raw())


class OurForwarder:
    """The innermost app of our sidecar alone, with a `Call` as the stack would open it."""

    def __init__(self, library: Literal["aiohttp", "httpx"]) -> None:
        self.client = open_client(connect_timeout=5, first_byte_timeout=60, idle_timeout=60, library=library)
        self.app = Forwarder(client=self.client, base_url=UPSTREAM, upstream_auth="forward")

    async def start(self) -> None:
        """It connects at its first request."""

    async def stop(self) -> None:
        await self.client.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        method, path = scope["method"], scope["path"]
        protocol = recognise(method, path)
        assert protocol is not None
        call = Call(request_id="bench", protocol=protocol, method=method, path=path, model_call=True)
        await self.app({**scope, "state": {"gov": call}}, receive, send)


PROXIES: dict[str, Callable[[], BareAiohttp | BareHttpx | OurForwarder]] = {
    "bare-aiohttp": BareAiohttp,
    "bare-httpx": BareHttpx,
    "forwarder-aiohttp": lambda: OurForwarder("aiohttp"),
    "forwarder-httpx": lambda: OurForwarder("httpx"),
}


def create() -> ASGIApp:
    """The app, for `uvicorn --factory`."""
    proxy = PROXIES[os.environ["PROXY"]]()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await proxy(scope, receive, send)
            return
        await receive()
        await proxy.start()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await proxy.stop()
        await send({"type": "lifespan.shutdown.complete"})

    return app
