"""The client's side of one request: its body, and the watch for its leaving."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from starlette.types import Receive


@asynccontextmanager
async def while_connected(receive: Receive) -> AsyncIterator[ClientSide]:
    """Run a block until it ends or the client leaves, which cancels it and ends it quietly."""
    client: ClientSide | None = None
    try:
        # A timeout that nobody waits for: the standard library's only cancel scope.
        async with asyncio.timeout(None) as scope:
            client = ClientSide(receive, on_leaving=lambda: scope.reschedule(0))
            watcher = asyncio.create_task(client.watch())
            try:
                yield client
            finally:
                watcher.cancel()
    except TimeoutError:
        if client is None or not client.has_left:
            raise


class ClientSide:
    """One reader of `receive`: first for the body, then for the disconnect."""

    def __init__(self, receive: Receive, on_leaving: Callable[[], None]) -> None:
        self._receive = receive
        self._on_leaving = on_leaving
        self._first: bytes | None = None
        self._body_ended = asyncio.Event()
        self.has_left = False

    async def body(self) -> bytes | AsyncIterator[bytes] | None:
        """The body: as bytes where it is all there, as an iterator where more is to come, None where
        there is none. Nothing is read ahead of who consumes the iterator."""
        first = await self._next()
        if self._body_ended.is_set():
            return first or None
        self._first = first
        return self

    def __aiter__(self) -> ClientSide:
        return self

    async def __anext__(self) -> bytes:
        if self._first:
            first, self._first = self._first, None
            return first
        while not self._body_ended.is_set():
            if chunk := await self._next():
                return chunk
        raise StopAsyncIteration

    async def watch(self) -> None:
        """Once the body has ended, wait for the disconnect."""
        await self._body_ended.wait()
        while True:
            await self._next()

    async def _next(self) -> bytes:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self.has_left = True
            self._on_leaving()
            # Whoever reads the body is about to be cancelled; it must not take this for its end.
            await asyncio.get_running_loop().create_future()
        if not message.get("more_body", False):
            self._body_ended.set()
        chunk: bytes = message.get("body", b"")
        return chunk
