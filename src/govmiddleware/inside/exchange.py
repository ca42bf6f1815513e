"""One call through the stack, turned inside out.

A stack of middlewares calls the app inside it. Here that app is an HTTP client's transport, which must send
the request in the task or thread of its caller, and gives the answer out piece by piece as it is asked for.
So the stack runs in a task of its own and takes turns with the caller: nothing is buffered, and a chunk is
read from the upstream when the client wants it.
"""

from __future__ import annotations

import asyncio
from typing import ClassVar

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from govmiddleware.core.call import Call, Progress
from govmiddleware.core.ports import Headers
from govmiddleware.inside.libraries import never_sent
from govmiddleware.middleware._enter import STATE_KEY, WithAnswerHeaders

_EXCHANGE_KEY = "gov.exchange"


async def hand_over(scope: Scope, receive: Receive, send: Send) -> None:
    """The innermost app of the stack: the exchange of the call goes on with its caller."""
    await scope["state"][_EXCHANGE_KEY].converse(scope, receive, send)


class Exchange:
    """Takes turns between the stack and the caller: `start`, a `give` for each message of the answer, and
    `leave` where there will be no more. All of it on one event loop.

    Attributes:
        headers, body: what is to be sent upstream, once `start` has returned; `headers` is None where the
            stack has answered by itself.
    """

    _running: ClassVar[set[asyncio.Task[None]]] = set()
    """asyncio knows its tasks by weak references alone."""

    def __init__(self, stack: ASGIApp, scope: Scope, body: bytes) -> None:
        self._call: Call = scope["state"][STATE_KEY]
        self.headers: Headers | None = None
        self.body = body
        self._stack = stack
        self._scope = {**scope, "state": {**scope["state"], _EXCHANGE_KEY: self}}
        self._send = WithAnswerHeaders(self._call, self._take)
        self._sent: list[Message] = []
        self._given: asyncio.Queue[Message | Exception] = asyncio.Queue(1)
        self._callers_turn = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._error: BaseException | None = None

    async def start(self) -> list[Message]:
        """Let the stack judge the request. The messages are its own answer, if it gives one."""
        self._task = asyncio.create_task(self._run())
        self._running.add(self._task)
        self._task.add_done_callback(self._running.discard)
        return await self._turn()

    async def give(self, message: Message) -> list[Message]:
        """Give the stack a message of the answer; returns what the client gets of it. The last one
        (`more_body` False) ends the exchange: the call is settled then."""
        self._hand_in(message)
        return await self._turn()

    def leave(self, error: BaseException | None = None) -> None:
        """The request was not sent, the answer broke off, or the caller wants no more of it. Nothing is awaited,
        for whoever leaves may be cancelled again and again: the stack settles the call by itself."""
        if isinstance(error, Exception):
            self._hand_in(error)
        elif self._task is not None:
            self._task.cancel()

    async def ended(self) -> None:
        """Wait until the stack is done with the call."""
        if self._task is not None:
            await asyncio.wait({self._task})

    @property
    def has_ended(self) -> bool:
        return self._task is None or self._task.done()

    async def converse(self, scope: Scope, receive: Receive, send: Send) -> None:
        """What the innermost app does."""
        self.headers, self.body, more = scope["headers"], b"", True
        while more:
            message = await receive()
            self.body += message["body"]
            more = message["more_body"]
        more = True
        while more:
            self._callers_turn.set()
            given = await self._given.get()
            if isinstance(given, Exception):
                if never_sent(given):
                    self._call.progress = Progress.UNREACHED
                raise given
            more = given["type"] == "http.response.start" or given["more_body"]
            self._call.progress = Progress.ANSWERING if more else Progress.COMPLETE
            await send(given)

    async def _run(self) -> None:
        try:
            await self._stack(self._scope, self._receive, self._send)
        except BaseException as error:  # the caller's to know
            self._error = error
        finally:
            self._callers_turn.set()

    async def _turn(self) -> list[Message]:
        try:
            await self._callers_turn.wait()
        except asyncio.CancelledError:
            self.leave()
            raise
        sent, self._sent = self._sent, []
        if self._error is not None:
            raise self._error
        return sent

    async def _take(self, message: Message) -> None:
        self._sent.append(message)

    async def _receive(self) -> Message:
        return {"type": "http.request", "body": self.body, "more_body": False}

    def _hand_in(self, given: Message | Exception) -> None:
        if not self.has_ended:
            self._callers_turn.clear()
            self._given.put_nowait(given)
