"""The client's side of one request: its body, and the watch for its leaving."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from starlette.types import Receive, Scope

from govmiddleware.upstream.cancelling import CancelScope

ON_DISCONNECT = "govmiddleware.on_disconnect"
"""The ASGI extension of a server whose `notify` calls a function when the client leaves, at once where it has left
already; None takes the function back. Any other server is asked with `receive`, by a task."""

_OnDisconnect = Callable[[Callable[[], None] | None], None]

_WATCH_AFTER_SECONDS = 0.02
"""An answer that comes sooner needs no watch: it takes a task of its own, which costs as much as all else here."""


class ClientSide:
    """One reader of `receive`: first for the body, then for the disconnect.

    `async with ClientSide(scope, receive) as client` runs a block until it ends or the client leaves, which cancels it and
    ends it quietly.
    """

    def __init__(self, scope: Scope, receive: Receive) -> None:
        extension: dict[str, _OnDisconnect] | None = (scope.get("extensions") or {}).get(ON_DISCONNECT)
        self._on_disconnect = extension["notify"] if extension else None
        self._receive = receive
        self._scope = CancelScope()
        self._timer: asyncio.TimerHandle | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._first: bytes | None = None
        self._body_ended = False

    async def __aenter__(self) -> ClientSide:
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if self._on_disconnect is not None:
            self._on_disconnect(None)
        elif self._timer is not None:
            self._timer.cancel()
        if self._watcher is not None:
            self._watcher.cancel()
        return error is not None and self._scope.caused(error)

    async def body(self) -> bytes | AsyncIterator[bytes] | None:
        """The body: as bytes where it is all there, as an iterator where more is to come, None where
        there is none. Nothing is read ahead of who consumes the iterator."""
        first = await self._next()
        if self._body_ended:
            return first or None
        self._first = first
        return self

    def __aiter__(self) -> ClientSide:
        return self

    async def __anext__(self) -> bytes:
        if self._first:
            first, self._first = self._first, None
            return first
        while not self._body_ended:
            if chunk := await self._next():
                return chunk
        raise StopAsyncIteration

    async def _next(self) -> bytes:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self._scope.cancel()
            # Whoever reads the body is about to be cancelled; it must not take this for its end.
            await asyncio.get_running_loop().create_future()
        if not message.get("more_body", False):
            self._body_ended = True
            self._begin_to_watch()
        chunk: bytes = message.get("body", b"")
        return chunk

    def _begin_to_watch(self) -> None:
        if self._on_disconnect is not None:
            self._on_disconnect(self._scope.cancel)
        else:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(_WATCH_AFTER_SECONDS, self._start_to_watch)

    def _start_to_watch(self) -> None:
        self._watcher = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        """After the body: for the disconnect."""
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._scope.cancel()
