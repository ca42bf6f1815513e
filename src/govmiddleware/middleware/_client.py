"""The client's leaving, told to whoever holds its call back before the app reads on."""

from __future__ import annotations

import asyncio
from collections import deque

from starlette.types import Message, Receive

from govmiddleware.core.call import Call

_KEPT_BYTES = 65_536
"""Of a body that nobody has read yet. One that is larger hides the disconnect behind it."""


def watch_client(call: Call, receive: Receive) -> Receive:
    """The `receive` to use from here on; `Call.client_left` watches it while nobody reads."""
    if call.client_left is not None:
        return receive
    client = _Client(receive)
    call.client_left = client.left
    return client.receive


class _Client:
    """Keeps, for who reads later, what arrives while somebody watches."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._kept: deque[Message] = deque()
        self._kept_bytes = 0

    async def receive(self) -> Message:
        return self._kept.popleft() if self._kept else await self._receive()

    async def left(self) -> None:
        """Not to be awaited while somebody reads. Whoever cancels it loses nothing."""
        while self._kept_bytes <= _KEPT_BYTES:
            message = await self._receive()
            self._kept.append(message)
            self._kept_bytes += len(message.get("body", b""))
            if message["type"] == "http.disconnect":
                return
        await asyncio.get_running_loop().create_future()
