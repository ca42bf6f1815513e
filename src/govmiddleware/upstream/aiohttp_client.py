"""The upstream client on aiohttp."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from functools import lru_cache, partial
from typing import NoReturn

import aiohttp
from aiohttp.abc import AbstractStreamWriter
from aiohttp.client_proto import ResponseHandler
from multidict import CIMultiDict, istr
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


class AiohttpClient:
    """Implements `core.ports.UpstreamClient`. Timeouts in seconds, as in `open_client`."""

    def __init__(
        self,
        connect_timeout: float,
        first_byte_timeout: float,
        idle_timeout: float,
        ssl_context: ssl.SSLContext,
    ) -> None:
        # aiohttp's timeouts cover neither a stalled upload nor a head and a body that may take
        # different times, so all but the connecting is timed here.
        self._connect_timeout = connect_timeout
        self.first_byte_timeout = first_byte_timeout
        self.idle_timeout = idle_timeout
        self._ssl_context = ssl_context
        self._session: aiohttp.ClientSession | None = None

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
        if self._session is not None:
            session, self._session = self._session, None
            await session.close()

    @property
    def patience(self) -> float:
        """Seconds for a request that says nothing of its progress."""
        return self._connect_timeout + self.first_byte_timeout

    def open_session(self) -> aiohttp.ClientSession:
        """The session, which needs a running loop to be made in."""
        if self._session is None:
            connector = aiohttp.TCPConnector(
                limit=0, keepalive_timeout=KEEPALIVE_SECONDS, ssl=self._ssl_context
            )
            connector._factory = partial(_Connection, asyncio.get_running_loop())  # type: ignore[assignment]
            self._session = aiohttp.ClientSession(
                connector=connector,
                request_class=_Request,
                timeout=aiohttp.ClientTimeout(total=None, connect=self._connect_timeout),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                max_line_size=_MAX_HEADER_BYTES,
                max_field_size=_MAX_HEADER_BYTES,
            )
        return self._session


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
        self._client = client
        self._request = method, URL(url, encoded=True)
        self._fields = _fields(headers)
        self._upload = None if body is None else _Upload(body, client, leaves)

    async def __aenter__(self) -> _Exchange:
        self._deadline = deadline = Deadline()
        upload = self._upload
        deadline.allow(self._client.patience)
        if upload is not None:
            upload.deadline = deadline
        try:
            self._response = response = await self._client.open_session().request(
                *self._request, headers=self._fields, data=upload, allow_redirects=False
            )
        except BaseException as error:
            deadline.close()
            _raise(error, deadline, NO_ANSWER)
        if upload is not None:
            upload.deadline = None  # the answer has begun, and has the time to itself
        deadline.allow(None)
        self._content = response.content
        self.status = response.status
        self.headers = [(name.lower(), value) for name, value in response.raw_headers]
        try:
            check_head(self.status, self.headers)
        except UpstreamUnreachable:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        self._deadline.close()
        if not self._response.closed:  # a body read to its end has given its connection back by now
            self._response.close()

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


class _Request(aiohttp.ClientRequest):
    """Has no headers but the client's: what `skip_auto_headers` would see to one by one, for each request anew."""

    _skip_auto_headers = CIMultiDict[None]({"Content-Type": None})

    def update_auto_headers(self, skip_auto_headers: object) -> None:
        pass


class _Connection(ResponseHandler):
    """Not used again once something has come that nobody asked for: aiohttp would take it for the answer to
    the next request, which may be another caller's."""

    def is_connected(self) -> bool:
        return super().is_connected() and not self.should_close


class _Upload(aiohttp.Payload):
    """A request body that sets the clock for the answer's head as it is written.

    The clock stands while we wait for the client's next piece, runs while a piece waits to be written,
    and starts again for the answer once the last one has left.

    Attributes:
        deadline: the clock; None once the answer has begun.
    """

    def __init__(
        self, body: bytes | AsyncIterator[bytes], client: AiohttpClient, leaves: Callable[[], None] | None
    ) -> None:
        super().__init__(body)
        self._size = len(body) if isinstance(body, bytes) else None
        self._client = client
        self._leaves = leaves
        self.deadline: Deadline | None = None

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        """Called once there is a connection; `content_length` is what the headers say."""
        self._consumed = True  # no request is sent twice
        if self._leaves is not None:
            self._leaves()
        body: bytes | AsyncIterator[bytes] = self._value
        if isinstance(body, bytes) and len(body) <= PIECE_BYTES:
            await writer.write(body)  # what a socket's buffer takes at once
        else:
            await self._write_pieces(
                writer, Pieces(body) if isinstance(body, bytes) else body, content_length
            )
        self._allow(self._client.first_byte_timeout)

    async def _write_pieces(
        self, writer: AbstractStreamWriter, pieces: AsyncIterator[bytes], left: int | None
    ) -> None:
        self._allow(None)
        async for piece in pieces:
            if left is not None:
                piece = piece[:left]
                left -= len(piece)
            self._allow(self._client.idle_timeout)
            await writer.write(piece)
            self._allow(None)

    async def write(self, writer: AbstractStreamWriter) -> None:
        await self.write_with_length(writer, None)

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        raise TypeError("a body that is passed on is not decoded")

    def _allow(self, seconds: float | None) -> None:
        if self.deadline is not None:
            self.deadline.allow(seconds)


def _fields(headers: Headers) -> CIMultiDict[str]:
    """aiohttp takes text and writes it as UTF-8. What is not UTF-8 (RFC 9110 5.5 calls it obsolete)
    is read as Latin-1, so that it arrives altered rather than not at all."""
    return CIMultiDict([(_field_name(name), _field_value(value)) for name, value in headers])


@lru_cache(maxsize=1024)
def _field_name(name: bytes) -> istr:
    return istr(name.decode("ascii"))


def _field_value(value: bytes) -> str:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return value.decode("latin-1")


def _raise(error: BaseException, deadline: Deadline, timed_out: str) -> NoReturn:
    """aiohttp's errors as ours. Its own texts name addresses, so none of them is kept."""
    if deadline.caused(error):
        raise UpstreamTimeout(timed_out) from error
    if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
        raise UpstreamUnreachable(UNREACHABLE, sent=False) from error
    if isinstance(error, aiohttp.ClientError | aiohttp.http.HttpProcessingError | OSError):
        raise UpstreamUnreachable(BROKE_OFF, sent=True) from error
    raise error
