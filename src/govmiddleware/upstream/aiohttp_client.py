"""The upstream client on aiohttp: its connections and its parser, below its session.

The session is for those who want cookies, redirects, proxies, traces and typed headers, and costs more than all
else here. What is left to do without it is to write the request.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from functools import cached_property, partial
from typing import NoReturn

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.client_reqrep import ConnectionKey
from aiohttp.connector import Connection
from aiohttp.http import StreamWriter
from yarl import URL

from govmiddleware.core.ports import Headers
from govmiddleware.errors import UpstreamTimeout, UpstreamUnreachable
from govmiddleware.upstream.cancelling import Deadline
from govmiddleware.upstream.framing import (
    BROKE_OFF,
    KEEPALIVE_SECONDS,
    NO_ANSWER,
    PIECE_BYTES,
    STALLED,
    UNREACHABLE,
    Pieces,
    check_head,
)

_MAX_HEADER_BYTES = 256 * 1024

_IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})
"""RFC 9110, 9.2.2."""


class AiohttpClient:
    """Implements `core.ports.UpstreamClient`. Timeouts in seconds, as in `open_client`."""

    def __init__(
        self,
        connect_timeout: float,
        first_byte_timeout: float,
        idle_timeout: float,
        ssl_context: ssl.SSLContext,
    ) -> None:
        self._connect_timeout = connect_timeout
        self.first_byte_timeout = first_byte_timeout
        self.idle_timeout = idle_timeout
        self._ssl_context = ssl_context
        self._connector: aiohttp.TCPConnector | None = None
        self._origins: dict[str, _Origin] = {}

    def request(
        self,
        method: str,
        url: str,
        headers: Headers,
        body: bytes | AsyncIterator[bytes] | None,
        leaves: Callable[[], None] | None = None,
    ) -> _Exchange:
        """See `core.ports.UpstreamClient.request`."""
        return _Exchange(self, method, url, headers, body, leaves)

    async def close(self) -> None:
        """Close all connections; the next request would open a new pool."""
        if self._connector is not None:
            connector, self._connector = self._connector, None
            self._origins.clear()
            await connector.close()

    def origin(self, name: str) -> _Origin:
        """Where requests go, by scheme and authority."""
        origin = self._origins.get(name)
        if origin is None:
            origin = self._origins[name] = _Origin(name)
        return origin

    async def connect(self, origin: _Origin) -> Connection:
        """A connection, from the pool where it has one. Raises UpstreamUnreachable."""
        if self._connector is None:  # which needs a running loop to be made in
            self._connector = aiohttp.TCPConnector(
                limit=0, keepalive_timeout=KEEPALIVE_SECONDS, ssl=self._ssl_context
            )
            self._connector._factory = partial(_Connection, asyncio.get_running_loop())  # type: ignore[assignment]
            self._timeout = aiohttp.ClientTimeout(total=None, connect=self._connect_timeout)
        try:
            return await self._connector.connect(origin, [], self._timeout)
        except (aiohttp.ClientError, OSError) as error:
            raise UpstreamUnreachable(UNREACHABLE, sent=False) from error


class _Exchange:
    """One request as a block, in which it is the answer to it: implements `core.ports.UpstreamResponse`."""

    status: int
    headers: Headers

    def __init__(
        self,
        client: AiohttpClient,
        method: str,
        url: str,
        headers: Headers,
        body: bytes | AsyncIterator[bytes] | None,
        leaves: Callable[[], None] | None,
    ) -> None:
        scheme, _, rest = url.partition("://")
        authority, _, target = rest.partition("/")
        self._client = client
        self._origin = client.origin(f"{scheme}://{authority}")
        self._method = method.upper()
        self._target = "/" + target
        self._headers = headers
        self._body = body
        self._leaves = leaves
        self._connection: Connection | None = None
        self._upload: asyncio.Task[None] | None = None
        self._answered = False

    async def __aenter__(self) -> _Exchange:
        self._deadline = deadline = Deadline()
        try:
            try:
                code, raw_headers = await self._head_of_answer()
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
                # The connection may have been closed as it was taken from the pool.
                if self._body is not None or self._method not in _IDEMPOTENT:
                    raise
                self._hang_up()
                code, raw_headers = await self._head_of_answer()
            deadline.allow(None)
            self._answered = True
            self.status = code
            self.headers = [(name.lower(), value) for name, value in raw_headers]
            check_head(code, self.headers)
        except BaseException as error:
            deadline.close()
            self._hang_up()
            _raise(error, deadline, NO_ANSWER)
        return self

    async def _head_of_answer(self) -> tuple[int, tuple[tuple[bytes, bytes], ...]]:
        self._connection = connection = await self._client.connect(self._origin)
        protocol = connection.protocol
        assert protocol is not None
        protocol.set_response_params(
            skip_payload=self._method == "HEAD",
            read_until_eof=True,
            auto_decompress=False,
            max_line_size=_MAX_HEADER_BYTES,
            max_field_size=_MAX_HEADER_BYTES,
        )
        self._send(protocol)
        while True:
            message, self._content = await protocol.read()
            if message.code >= 200 or message.code == 101:
                return message.code, message.raw_headers

    def _send(self, protocol: ResponseHandler) -> None:
        """Write what a socket's buffer takes at once; the rest of a longer body leaves beside the answer."""
        body, transport = self._body, protocol.transport
        if transport is None:
            raise aiohttp.ClientConnectionResetError
        head, length = _head(self._method, self._target, self._origin.authority, self._headers, body)
        if self._leaves is not None and body is not None:
            self._leaves()
        if body is None:
            transport.write(head)
        elif isinstance(body, bytes) and len(body) <= PIECE_BYTES:
            transport.write(head + body)
        else:
            transport.write(head)
            pieces = Pieces(body) if isinstance(body, bytes) else body
            self._upload = asyncio.create_task(self._write_pieces(protocol, pieces, length))
            return
        self._deadline.allow(self._client.first_byte_timeout)

    async def _write_pieces(
        self, protocol: ResponseHandler, pieces: AsyncIterator[bytes], length: int | None
    ) -> None:
        """The clock for the answer's head stands while we wait for the client's next piece, runs while a piece waits
        to be written, and starts again for the answer once the last one has left."""
        writer = StreamWriter(protocol, asyncio.get_running_loop())
        writer.length = length
        if length is None:
            writer.enable_chunking()
        try:
            async for piece in pieces:
                self._allow(self._client.idle_timeout)
                await writer.write(piece)
                self._allow(None)
            self._allow(self._client.idle_timeout)
            await writer.write_eof()
            self._allow(self._client.first_byte_timeout)
        except Exception as error:  # who waits for the answer is told, unless it has come
            protocol.set_exception(aiohttp.ClientConnectionError("the upload broke off"), error)

    def _allow(self, seconds: float | None) -> None:
        if not self._answered:  # after that the answer has the time to itself
            self._deadline.allow(seconds)

    async def __aexit__(self, *_: object) -> None:
        self._deadline.close()
        assert self._connection is not None
        if self._content.is_eof() and (self._upload is None or self._upload.done()):
            self._connection.release()
        else:
            self._hang_up()

    def _hang_up(self) -> None:
        if self._upload is not None:
            self._upload.cancel()
        if self._connection is not None:
            self._connection.close()

    @property
    def ended(self) -> bool:
        return self._content.at_eof()

    def chunks(self) -> _Exchange:
        return self

    def __aiter__(self) -> _Exchange:
        return self

    async def __anext__(self) -> bytes:
        content, deadline = self._content, self._deadline
        if not content.is_eof():
            deadline.allow(self._client.idle_timeout)
        try:
            chunk = await content.readany()
        except BaseException as error:
            _raise(error, deadline, STALLED)
        deadline.allow(None)  # a client that is slow to take it is no idle upstream
        if not chunk:
            raise StopAsyncIteration
        return chunk


class _Origin(aiohttp.ClientRequest):
    """A scheme and an authority: as much of a request as a connector looks at, kept for all that go there."""

    def __init__(self, url: str) -> None:
        super().__init__("GET", URL(url), loop=asyncio.get_running_loop())
        self.authority = self.headers["Host"].encode("ascii")

    @cached_property
    def connection_key(self) -> ConnectionKey:
        return super().connection_key


class _Connection(ResponseHandler):
    """Not used again once something has come that nobody asked for: aiohttp would take it for the answer to
    the next request, which may be another caller's."""

    def is_connected(self) -> bool:
        transport = self.transport
        return transport is not None and not transport.is_closing() and not self.should_close


def _head(
    method: str, target: str, authority: bytes, headers: Headers, body: bytes | AsyncIterator[bytes] | None
) -> tuple[bytes, int | None]:
    """The head of a request, and the length of its body; None where it is sent in chunks.

    Raises ValueError where a line of it would be read as two.
    """
    lines = [f"{method} {target} HTTP/1.1".encode("ascii"), b"host: " + authority]
    length: int | None = None
    for name, value in headers:
        lines.append(b"%s: %s" % (name, value))
        if name == b"content-length":
            length = int(value)
    if length is None and isinstance(body, bytes):
        length = len(body)
        lines.append(b"content-length: %d" % length)
    elif length is None and body is not None:
        lines.append(b"transfer-encoding: chunked")
    elif length is None and method in ("POST", "PUT", "PATCH"):
        lines.append(b"content-length: 0")  # RFC 9110, 8.6
    head = b"\r\n".join(lines) + b"\r\n\r\n"
    if not head.count(b"\r") == head.count(b"\n") == len(lines) + 1 or b"\0" in head:
        raise ValueError("a control character in the head of a request")
    return head, length


def _raise(error: BaseException, deadline: Deadline, timed_out: str) -> NoReturn:
    """aiohttp's errors as ours. Its own texts name addresses, so none of them is kept."""
    if deadline.caused(error):
        raise UpstreamTimeout(timed_out) from error
    if isinstance(error, aiohttp.ClientError | aiohttp.http.HttpProcessingError | OSError):
        raise UpstreamUnreachable(BROKE_OFF, sent=True) from error
    raise error
