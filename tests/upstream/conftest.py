"""A gateway on a real server (with aiohttp as `serve` runs it, with httpx as a host may), scripted and raw upstreams,
raw clients."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import httpx
import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from govmiddleware.cli.http_protocol import HttpProtocol
from govmiddleware.core.call import Call
from govmiddleware.core.ids import new_request_id
from govmiddleware.core.ports import RefusalResponse, UpstreamClient, WireProtocol
from govmiddleware.core.refusals import Refusal
from govmiddleware.testing.bell import Bell
from govmiddleware.testing.provider import ScriptedProvider
from govmiddleware.testing.server import serve_in_thread
from govmiddleware.upstream import Forwarder, open_client

TLS = ssl.create_default_context()
"""Made once: it reads the whole trust store."""

PATIENCE = 5.0
"""Seconds after which a test that waits has failed."""


@pytest.fixture(scope="session")
def tls() -> ssl.SSLContext:
    return TLS


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


class StandInProtocol:
    """The part of a wire protocol that the forwarder uses."""

    def __init__(self, name: str = "openai.chat") -> None:
        self.name = name
        self.key_in_query = name.startswith("gemini")

    def refusal(self, refusal: Refusal, request_id: str) -> RefusalResponse:
        body = f"{refusal.code}: {refusal}".encode()
        headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(body))]
        return RefusalResponse(refusal.status, headers, body)

    def stream_error(self, refusal: Refusal, request_id: str) -> bytes:
        return f"data: error {refusal.code}\n\n".encode()


def new_call(scope: Scope, protocol: str = "openai.chat") -> Call:
    stand_in = cast(WireProtocol, StandInProtocol(protocol))
    return Call(new_request_id(), stand_in, scope["method"], scope["path"], model_call=True)


class Switchboard:
    """An app whose inside can be changed while the server runs. The lifespan is its own."""

    def __init__(self) -> None:
        self.app: ASGIApp | None = None
        self.url = ""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await self.stop()
            await send({"type": "lifespan.shutdown.complete"})
        else:
            assert self.app is not None
            await self.app(scope, receive, send)

    async def stop(self) -> None:
        """To be done in the server's own loop at its end."""


class Gateway(Switchboard):
    """A forwarder on a server of its own, with what its calls have become."""

    def __init__(self, library: str) -> None:
        super().__init__()
        self.library = library
        self.calls: list[Call] = []
        self.bell = Bell()
        self._clients: list[UpstreamClient] = []

    def forward_to(self, base_url: str, *, protocol: str = "openai.chat", **options: Any) -> None:
        """From now on. Timeouts in seconds, the rest as the forwarder's."""
        timeouts = {
            name: options.pop(name, PATIENCE)
            for name in ("connect_timeout", "first_byte_timeout", "idle_timeout")
        }
        client = open_client(library=self.library, ssl_context=TLS, **timeouts)
        self._clients.append(client)
        forwarder = Forwarder(client=client, base_url=base_url, **options)

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            call = new_call(scope, protocol)
            self.calls.append(call)
            scope.setdefault("state", {})["gov"] = call
            try:
                await forwarder(scope, receive, send)
            finally:
                self.ended += 1
                self.bell.ring()

        self.calls.clear()
        self.ended = 0
        self.app = app

    async def last_call(self) -> Call:
        """The newest call, once all calls have ended."""
        await self.bell.until(lambda: bool(self.calls) and self.ended == len(self.calls))
        return self.calls[-1]

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """A raw client."""
        reader, writer = await asyncio.open_connection(*self.url.removeprefix("http://").split(":"))
        try:
            yield reader, writer
        finally:
            writer.close()

    async def exchange(self, request: bytes) -> bytes:
        """Send raw bytes, and read what comes until the connection is closed."""
        async with self.connection() as (reader, writer):
            writer.write(request)
            async with asyncio.timeout(PATIENCE):
                return await reader.read()

    async def stop(self) -> None:
        for client in self._clients:
            await client.close()


@pytest.fixture(scope="session", params=["aiohttp", "httpx"])
def gateway(request: pytest.FixtureRequest) -> Iterator[Gateway]:
    switchboard = Gateway(request.param)
    with serve_in_thread(switchboard, http=HttpProtocol if request.param == "aiohttp" else "auto") as server:
        switchboard.url = server.url
        yield switchboard


@pytest.fixture
async def http(gateway: Gateway) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the gateway."""
    async with httpx.AsyncClient(base_url=gateway.url, verify=TLS, timeout=PATIENCE) as client:
        yield client


@pytest.fixture(scope="session")
def upstream_server() -> Iterator[Switchboard]:
    """An ASGI app's place behind the gateway."""
    switchboard = Switchboard()
    with serve_in_thread(switchboard) as server:
        switchboard.url = server.url
        yield switchboard


@pytest.fixture
def provider(upstream_server: Switchboard, gateway: Gateway) -> ScriptedProvider:
    """A fresh provider, to which the gateway forwards."""
    provider = ScriptedProvider()
    upstream_server.app = provider
    gateway.forward_to(upstream_server.url)
    return provider


@dataclass
class RawUpstream:
    """A server made of one function over a socket, and the connections that it has had."""

    url: str = ""
    heads: list[bytes] = field(default_factory=list)
    connections: int = 0


Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
RawUpstreamFactory = Callable[[Handler | bytes], AbstractAsyncContextManager[RawUpstream]]


@pytest.fixture
def raw_upstream() -> RawUpstreamFactory:
    """Serve a handler; bytes are one that reads the head of a request, answers so and closes."""

    @asynccontextmanager
    async def serve(answer: Handler | bytes) -> AsyncIterator[RawUpstream]:
        upstream = RawUpstream()
        tasks: set[asyncio.Task[None]] = set()

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            upstream.connections += 1
            task = asyncio.current_task()
            assert task is not None
            tasks.add(task)
            try:
                if isinstance(answer, bytes):
                    upstream.heads.append(await reader.readuntil(b"\r\n\r\n"))
                    writer.write(answer)
                    await writer.drain()
                else:
                    await answer(reader, writer)
            except (ConnectionError, asyncio.IncompleteReadError):
                pass  # the gateway left, which tests look at from the other side
            except asyncio.CancelledError:
                pass  # the test has ended; a cancelled handler would be reported by asyncio.streams
            finally:
                writer.close()

        server = await asyncio.start_server(connected, "127.0.0.1", 0)
        upstream.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield upstream
        finally:
            server.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    return serve
