"""The upstream client on httpcore, the transport of httpx, for installations without aiohttp.

httpx's own client adds headers, cookies and redirects, all of which would have to be turned off. httpcore
sends the whole request before it looks at the answer, so an early answer is relayed once the upload has
ended or the upstream stops taking it.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import lru_cache
from urllib.parse import urlsplit

import httpcore

from govmiddleware.core.ports import Headers
from govmiddleware.errors import UpstreamTimeout, UpstreamUnreachable
from govmiddleware.upstream.framing import (
    BROKE_OFF,
    KEEPALIVE_SECONDS,
    NO_ANSWER,
    STALLED,
    UNREACHABLE,
    Pieces,
    Watched,
    check_head,
    with_length,
)


class HttpxClient:
    """Implements `core.ports.UpstreamClient`. Timeouts in seconds, as in `open_client`."""

    def __init__(
        self,
        connect_timeout: float,
        first_byte_timeout: float,
        idle_timeout: float,
        ssl_context: ssl.SSLContext,
    ) -> None:
        self._connect_timeout = connect_timeout
        self._first_byte_timeout = first_byte_timeout
        self._idle_timeout = idle_timeout
        self._ssl_context = ssl_context
        self._pool: _Pool | None = None

    @asynccontextmanager
    async def request(
        self,
        method: str,
        url: str,
        headers: Headers,
        body: bytes | AsyncIterator[bytes] | None,
        leaves: Callable[[], None] | None = None,
    ) -> AsyncIterator[HttpxResponse]:
        """See `core.ports.UpstreamClient.request`."""
        netloc, target = _split(url)
        timeouts = {
            "connect": self._connect_timeout,
            "write": self._idle_timeout,
            "read": self._first_byte_timeout,
        }
        request = httpcore.Request(
            method.upper(),
            target,
            headers=_complete(netloc, with_length(headers, method, body), body),
            content=Watched(body, leaves) if body is not None else Pieces(b""),
            extensions={"timeout": timeouts},
        )
        with _mapped(NO_ANSWER):
            response = await self._open_pool().handle_async_request(request)
        timeouts["read"] = self._idle_timeout  # httpcore looks again as the body begins
        try:
            answer = HttpxResponse(response)
            check_head(answer.status, answer.headers)
            yield answer
        finally:
            await response.aclose()

    async def close(self) -> None:
        """Close all connections; the next request would open a new pool."""
        if self._pool is not None:
            pool, self._pool = self._pool, None
            await pool.aclose()

    def _open_pool(self) -> _Pool:
        if self._pool is None:
            self._pool = _Pool(self._ssl_context)
        return self._pool


class HttpxResponse:
    """Implements `core.ports.UpstreamResponse`."""

    def __init__(self, response: httpcore.Response) -> None:
        self.status = response.status
        self.headers: Headers = [(name.lower(), value) for name, value in response.headers]
        assert isinstance(response.stream, AsyncIterable)
        self._stream = response.stream  # below `aiter_stream`, which wraps it for nothing

    @property
    def ended(self) -> bool:
        return False  # httpcore says it with a last, empty chunk

    async def chunks(self) -> AsyncIterator[bytes]:
        with _mapped(STALLED):
            async for chunk in self._stream:
                yield chunk


class _Pool(httpcore.AsyncConnectionPool):
    def __init__(self, ssl_context: ssl.SSLContext) -> None:
        super().__init__(ssl_context, max_connections=None)
        self._context = ssl_context

    def create_connection(self, origin: httpcore.Origin) -> httpcore.AsyncConnectionInterface:
        return _Connection(origin, self._context, KEEPALIVE_SECONDS)


class _Connection(httpcore.AsyncHTTPConnection):
    """Not used again where more has come than the answer, such as a body behind a 204: httpcore would take
    it for the answer to the next request, which may be another caller's."""

    def has_expired(self) -> bool:
        return super().has_expired() or (self.is_idle() and self._holds_more())

    def _holds_more(self) -> bool:
        connection = self._connection
        assert isinstance(connection, httpcore.AsyncHTTP11Connection)
        received, _ = connection._h11_state.trailing_data
        return bool(received)


def _complete(
    netloc: bytes, headers: Headers, body: bytes | AsyncIterator[bytes] | None
) -> list[tuple[bytes, bytes]]:
    """With `host` and, for a body of unknown length, the chunked coding."""
    complete = [(b"host", netloc), *headers]
    if body is not None and not any(name == b"content-length" for name, _ in headers):
        complete.append((b"transfer-encoding", b"chunked"))
    return complete


def _split(url: str) -> tuple[bytes, httpcore.URL]:
    """The authority of an absolute URL, and the URL with its request target byte for byte."""
    scheme, _, rest = url.partition("://")
    authority, slash, target = rest.partition("/")
    host, port = _host(authority)
    return authority.encode("ascii"), httpcore.URL(scheme=scheme, host=host, port=port, target=slash + target)


@lru_cache(maxsize=64)
def _host(authority: str) -> tuple[str, int | None]:
    parts = urlsplit("//" + authority)
    return parts.hostname or "", parts.port


@contextmanager
def _mapped(timed_out: str) -> Iterator[None]:
    """httpcore's errors as ours. Its own texts can name addresses, so none of them is kept."""
    try:
        yield
    except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
        raise UpstreamUnreachable(UNREACHABLE, sent=False) from error
    except httpcore.TimeoutException as error:
        raise UpstreamTimeout(timed_out) from error
    except (httpcore.NetworkError, httpcore.ProtocolError, OSError) as error:
        raise UpstreamUnreachable(BROKE_OFF, sent=True) from error
