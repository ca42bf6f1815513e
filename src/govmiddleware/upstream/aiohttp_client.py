"""The upstream client on aiohttp."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial

import aiohttp
from aiohttp.client_proto import ResponseHandler
from yarl import URL

from govmiddleware.core.ports import Headers
from govmiddleware.errors import UpstreamTimeout, UpstreamUnreachable
from govmiddleware.upstream.framing import (
    BROKE_OFF,
    KEEPALIVE_SECONDS,
    NO_ANSWER,
    STALLED,
    UNREACHABLE,
    Pieces,
    check_head,
    with_length,
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
        self._first_byte_timeout = first_byte_timeout
        self._idle_timeout = idle_timeout
        self._ssl_context = ssl_context
        self._session: aiohttp.ClientSession | None = None

    @asynccontextmanager
    async def request(
        self, method: str, url: str, headers: Headers, body: bytes | AsyncIterator[bytes] | None
    ) -> AsyncIterator[AiohttpResponse]:
        """See `core.ports.UpstreamClient.request`."""
        session = self._open_session()
        with _mapped(NO_ANSWER):
            # Without a body, nothing tells when the connection stands.
            async with asyncio.timeout(self._connect_timeout + self._first_byte_timeout) as patience:
                upload = None
                if body is not None:
                    upload = _Upload(body, patience, self._first_byte_timeout, self._idle_timeout)
                response = await session.request(
                    method,
                    URL(url, encoded=True),
                    headers=_decoded(with_length(headers, method, body)),
                    data=upload,
                    allow_redirects=False,
                )
                if upload is not None:
                    upload.patience = None
        try:
            answer = AiohttpResponse(response, self._idle_timeout)
            check_head(answer.status, answer.headers)
            yield answer
        finally:
            response.close()  # a body read to its end has given its connection back by now

    async def close(self) -> None:
        """Close all connections; the next request would open a new pool."""
        if self._session is not None:
            session, self._session = self._session, None
            await session.close()

    def _open_session(self) -> aiohttp.ClientSession:
        """The session, which needs a running loop to be made in."""
        if self._session is None:
            connector = aiohttp.TCPConnector(
                limit=0, keepalive_timeout=KEEPALIVE_SECONDS, ssl=self._ssl_context
            )
            connector._factory = partial(_Connection, asyncio.get_running_loop())  # type: ignore[assignment]
            self._session = aiohttp.ClientSession(
                connector=connector,
                timeout=aiohttp.ClientTimeout(total=None, connect=self._connect_timeout),
                cookie_jar=aiohttp.DummyCookieJar(),
                skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
                auto_decompress=False,
                max_line_size=_MAX_HEADER_BYTES,
                max_field_size=_MAX_HEADER_BYTES,
            )
        return self._session


class AiohttpResponse:
    """Implements `core.ports.UpstreamResponse`."""

    def __init__(self, response: aiohttp.ClientResponse, idle_timeout: float) -> None:
        self.status = response.status
        self.headers: Headers = [(name.lower(), value) for name, value in response.raw_headers]
        self._content = response.content
        self._idle_timeout = idle_timeout

    async def chunks(self) -> AsyncIterator[bytes]:
        with _mapped(STALLED):
            while True:
                async with asyncio.timeout(self._idle_timeout):
                    chunk = await self._content.readany()
                if not chunk:
                    return
                yield chunk


class _Connection(ResponseHandler):
    """Not used again once something has come that nobody asked for: aiohttp would take it for the answer to
    the next request, which may be another caller's."""

    def is_connected(self) -> bool:
        return super().is_connected() and not self.should_close


class _Upload:
    """A request body that sets the clock for the answer's head as it is taken.

    The clock stands while we wait for the client's next piece, runs while a piece waits to be written,
    and starts again for the answer once the last one has left.

    Attributes:
        patience: the clock; None once the answer has begun, since its body has a clock of its own.
    """

    def __init__(
        self,
        body: bytes | AsyncIterator[bytes],
        patience: asyncio.Timeout,
        first_byte_timeout: float,
        idle_timeout: float,
    ) -> None:
        self._pieces: AsyncIterator[bytes] = Pieces(body) if isinstance(body, bytes) else body
        self._first_byte_timeout = first_byte_timeout
        self._idle_timeout = idle_timeout
        self.patience: asyncio.Timeout | None = patience

    def __aiter__(self) -> _Upload:
        return self

    async def __anext__(self) -> bytes:
        self._allow(None)
        try:
            piece = await anext(self._pieces)
        except StopAsyncIteration:
            self._allow(self._first_byte_timeout)
            raise
        self._allow(self._idle_timeout)
        return piece

    def _allow(self, seconds: float | None) -> None:
        if self.patience is None or self.patience.expired():
            return
        now = asyncio.get_running_loop().time()
        self.patience.reschedule(None if seconds is None else now + seconds)


def _decoded(headers: Headers) -> list[tuple[str, str]]:
    """aiohttp takes text and writes it as UTF-8. What is not UTF-8 (RFC 9110 5.5 calls it obsolete)
    is read as Latin-1, so that it arrives altered rather than not at all."""
    return [(name.decode("ascii"), _decoded_value(value)) for name, value in headers]


def _decoded_value(value: bytes) -> str:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return value.decode("latin-1")


@contextmanager
def _mapped(timed_out: str) -> Iterator[None]:
    """aiohttp's errors as ours. Its own texts name addresses, so none of them is kept."""
    try:
        yield
    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
        raise UpstreamUnreachable(UNREACHABLE, sent=False) from error
    except TimeoutError as error:
        raise UpstreamTimeout(timed_out) from error
    except (aiohttp.ClientError, aiohttp.http.HttpProcessingError, OSError) as error:
        raise UpstreamUnreachable(BROKE_OFF, sent=True) from error
