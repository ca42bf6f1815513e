"""Calls of many tasks on one connection: what one turn of the event loop asks goes out in one write, and the answers
come back in order (Redis: "pipelining").

redis-py has a connection to itself for each call that waits, and some 200 Python calls around it. Here a call costs
its packing, a future, and its share of a write and of a read. redis-py still reads the URL, asks the sentinels,
connects, speaks TLS, and authenticates.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol, cast

import hiredis
from redis.asyncio.connection import AbstractConnection, DefaultParser
from redis.exceptions import ConnectionError, ReadOnlyError, TimeoutError

_IN_FLIGHT = 64
"""Calls. Further ones wait for their turn, and one whose caller gives up meanwhile is never sent."""

TICKS = 5
"""Patience is counted in ticks, each begun when the event loop got round to the one before: a loop that is late
itself does not take the store for slow, but reads the answers that wait for it first."""

Answer = asyncio.Future[Any]


class Pool(Protocol):
    def make_connection(self) -> AbstractConnection: ...

    def is_current(self, connection: AbstractConnection) -> bool:
        """Whether a new one would lead to the same server, as far as is known."""
        ...


class MergedCalls:
    """Connects at the first call, and again at the next one after a connection has failed. Repeats nothing.

    Args:
        patience: the seconds that a call may take, its turn and connecting included.
    """

    def __init__(self, pool: Pool, patience: Callable[[], float]) -> None:
        self._pool = pool
        self._patience = patience
        self._waiting: deque[tuple[int, bytes, Answer]] = deque()
        self._line: _Line | None = None
        self._lines: set[_Line] = set()
        """The one in use, and former ones that answers are still awaited from."""
        self._connecting: asyncio.Task[None] | None = None
        self._now = 0
        self._ticking: asyncio.TimerHandle | None = None
        self._flush_is_due = False

    def ask(self, *words: str | bytes | int) -> Answer:
        """The answer to a command, to be awaited. A caller that is cancelled disturbs no other.

        Raises what redis-py does: ResponseError, ConnectionError, TimeoutError.
        """
        loop = asyncio.get_running_loop()
        answer = loop.create_future()
        self._waiting.append((self._now, hiredis.pack_command(words), answer))  # type: ignore[arg-type]
        if not self._flush_is_due:
            self._flush_is_due = True
            loop.call_soon(self._flush)
        if self._ticking is None:
            self._begin_tick(loop)
        return answer

    async def aclose(self) -> None:
        """End all calls. The next one connects anew, on whichever event loop it comes."""
        closed = ConnectionError("the client was closed")
        self._fail_waiting(closed)
        if self._ticking is not None:
            self._ticking.cancel()
        self._line = self._ticking = None
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.wait([self._connecting])
        for line in tuple(self._lines):
            line.abort(closed)
            await line.lost.wait()

    def _flush(self) -> None:
        self._flush_is_due = False
        line = self._line
        if line is None or not line.is_usable or not self._pool.is_current(line.connection):
            self._reconnect()
            return
        commands: list[bytes] = []
        room = 0 if line.is_full else _IN_FLIGHT - len(line.asked)
        while self._waiting and len(commands) < room:
            asked, command, answer = self._waiting.popleft()
            if not answer.done():  # by its caller, who gave up
                commands.append(command)
                line.asked.append((asked, answer))
        if commands:
            line.transport.write(b"".join(commands))

    def _reconnect(self) -> None:
        if self._line is not None:
            self._line.retire()
            self._line = None
        if self._connecting is None and any(not answer.done() for _, _, answer in self._waiting):
            self._connecting = asyncio.get_running_loop().create_task(self._connect())
            self._connecting.add_done_callback(self._connected)

    async def _connect(self) -> None:
        connection: Any = self._pool.make_connection()
        try:
            await connection.connect()
            if await connection.can_read():  # the end, or why: too many clients
                await connection.read_response()
            # redis-py has no public way to the transport that it opened.
            line = _Line(connection, connection._writer.transport, self._told)
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        self._line = line
        self._lines.add(line)
        self._flush()  # before the store can say that it takes no more clients

    def _connected(self, connecting: asyncio.Task[None]) -> None:
        self._connecting = None
        if connecting.cancelled():  # it took too long for the call that had waited longest
            self._reconnect()
        elif error := connecting.exception():
            self._fail_waiting(error)
        else:
            self._flush()

    def _told(self, line: _Line) -> None:
        """It has answered, has room again, or has ended."""
        if line.lost.is_set():
            self._lines.discard(line)
        if self._waiting:
            self._flush()

    def _begin_tick(self, loop: asyncio.AbstractEventLoop) -> None:
        self._ticking = loop.call_later(self._patience() / TICKS, self._tick, loop)

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        self._ticking = None
        self._now += 1
        overdue = self._now - TICKS
        for line in tuple(self._lines):
            line.give_up(overdue)
        if self._waiting and self._waiting[0][0] < overdue:
            self._fail_waiting(TimeoutError("not sent in time"), overdue)
            if self._connecting is not None:
                self._connecting.cancel()
        if self._waiting:
            self._flush()
        if self._waiting or any(line.asked for line in self._lines):
            self._begin_tick(loop)

    def _fail_waiting(self, error: BaseException, overdue: int | None = None) -> None:
        while self._waiting and (overdue is None or self._waiting[0][0] < overdue):
            answer = self._waiting.popleft()[2]
            if not answer.done():
                answer.set_exception(error)


class _Line(asyncio.Protocol):
    """One connection, taken over from redis-py once it is ready for commands.

    Attributes:
        asked: what answers are awaited for, in order, and the tick in which each was asked.
        is_usable: whether further commands may be sent.
        is_full: the other side reads too slowly.
        lost: set when the connection has ended.
    """

    def __init__(
        self,
        connection: AbstractConnection,
        transport: asyncio.Transport,
        told: Callable[[_Line], None],
    ) -> None:
        if transport.is_closing():
            raise ConnectionError("the store closed the connection")
        self.connection = connection
        self.transport = transport
        self.asked: deque[tuple[int, Answer]] = deque()
        self.is_usable = True
        self.is_full = False
        self.lost = asyncio.Event()
        self._told = told
        self._reader = hiredis.Reader(replyError=cast("Any", DefaultParser).parse_error)
        transport.set_protocol(self)

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        try:
            while (answer := self._reader.gets()) is not False:  # which no answer in RESP 2 is
                if not self.asked:
                    raise hiredis.ProtocolError(f"nobody asked for {answer!r}")
                _, asked = self.asked.popleft()
                if isinstance(answer, Exception):
                    self._failed(answer, asked)
                elif not asked.done():  # by its caller, who gave up
                    asked.set_result(answer)
        except hiredis.ProtocolError as error:
            self.abort(ConnectionError(f"the store does not keep to its protocol: {error}"))
        self._told(self)

    def _failed(self, error: Exception, asked: Answer) -> None:
        if isinstance(error, ConnectionError | ReadOnlyError):
            self.is_usable = False  # it is loading, or no master any more: who connects anew may find another
        if not asked.done():
            asked.set_exception(error)

    def pause_writing(self) -> None:
        self.is_full = True

    def resume_writing(self) -> None:
        self.is_full = False
        self._told(self)

    def connection_lost(self, error: Exception | None) -> None:
        self.abort(error or ConnectionError("the store closed the connection"))
        cast("Any", self.connection)._close()  # redis-py's connection would warn that nobody closed it
        self.lost.set()
        self._told(self)

    def give_up(self, overdue: int) -> None:
        """On what was asked before that tick, and on asking more. What was asked since may still be answered."""
        for asked, answer in self.asked:
            if asked >= overdue:
                return
            self.is_usable = False
            if not answer.done():
                answer.set_exception(TimeoutError("no answer in time"))
        if not self.is_usable:
            self.abort(TimeoutError("no answer in time"))

    def retire(self) -> None:
        """Ask no more; end when all is answered (`give_up` sees to that)."""
        self.is_usable = False
        if not self.asked:
            self.transport.abort()

    def abort(self, error: Exception) -> None:
        self.is_usable = False
        self.transport.abort()
        for _, answer in self.asked:
            if not answer.done():
                answer.set_exception(error)
        self.asked.clear()
