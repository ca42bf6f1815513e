"""The upstream client on httpx, for installations without aiohttp.

It uses httpx's transport alone: the client above it adds headers, cookies and redirects, all of which
would have to be turned off. It sends the whole request before it looks at the answer, so an early
answer is relayed once the upload has ended or the upstream stops taking it.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import lru_cache

import httpx

from govmiddleware.core.ports import Headers
from govmiddleware.errors import UpstreamTimeout, UpstreamUnreachable
from govmiddleware.upstream.framing import (
    BROKE_OFF,
    KEEPALIVE_SECONDS,
    NO_ANSWER,
    STALLED,
    UNREACHABLE,
    Pieces,
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
        self._transport: httpx.AsyncHTTPTransport | None = None

    @asynccontextmanager
    async def request(
        self, method: str, url: str, headers: Headers, body: bytes | AsyncIterator[bytes] | None
    ) -> AsyncIterator[HttpxResponse]:
        """See `core.ports.UpstreamClient.request`."""
        origin, target = _split(url)
        timeouts = {
            "connect": self._connect_timeout,
            "write": self._idle_timeout,
            "read": self._first_byte_timeout,
        }
        request = httpx.Request(
            method,
            origin,
            headers=_complete(origin, with_length(headers, method, body), body),
            stream=_Upload(body),
            extensions={"timeout": timeouts, "target": target},  # httpx.URL would resolve its dots
        )
        with _mapped(NO_ANSWER):
            response = await self._open_transport().handle_async_request(request)
        timeouts["read"] = self._idle_timeout  # httpcore looks again as the body begins
        try:
            yield HttpxResponse(response)
        finally:
            await response.aclose()

    async def close(self) -> None:
        """Close all connections; the next request would open a new pool."""
        if self._transport is not None:
            transport, self._transport = self._transport, None
            await transport.aclose()

    def _open_transport(self) -> httpx.AsyncHTTPTransport:
        if self._transport is None:
            self._transport = httpx.AsyncHTTPTransport(
                verify=self._ssl_context,
                trust_env=False,
                limits=httpx.Limits(keepalive_expiry=KEEPALIVE_SECONDS),
            )
        return self._transport


class HttpxResponse:
    """Implements `core.ports.UpstreamResponse`."""

    def __init__(self, response: httpx.Response) -> None:
        self._response = response

    @property
    def status(self) -> int:
        return self._response.status_code

    @property
    def headers(self) -> Headers:
        return [(name.lower(), value) for name, value in self._response.headers.raw]

    async def chunks(self) -> AsyncIterator[bytes]:
        assert isinstance(self._response.stream, httpx.AsyncByteStream)
        with _mapped(STALLED):
            async for chunk in self._response.stream:  # below `aiter_raw`, which wraps it for nothing
                yield chunk


class _Upload(httpx.AsyncByteStream):
    """A request body as httpx's transport takes it."""

    def __init__(self, body: bytes | AsyncIterator[bytes] | None) -> None:
        self._pieces = Pieces(body or b"") if body is None or isinstance(body, bytes) else body

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._pieces


def _complete(
    origin: httpx.URL, headers: Headers, body: bytes | AsyncIterator[bytes] | None
) -> list[tuple[bytes, bytes]]:
    """With `host` and, for a body of unknown length, the chunked coding."""
    complete = [(b"host", origin.netloc), *headers]
    if body is not None and not any(name == b"content-length" for name, _ in headers):
        complete.append((b"transfer-encoding", b"chunked"))
    return complete


def _split(url: str) -> tuple[httpx.URL, bytes]:
    """An absolute URL as its origin and its request target, the latter byte for byte."""
    scheme, _, rest = url.partition("://")
    authority, slash, target = rest.partition("/")
    return _origin(f"{scheme}://{authority}"), (slash + target).encode("ascii")


@lru_cache(maxsize=64)
def _origin(origin: str) -> httpx.URL:
    return httpx.URL(origin)


@contextmanager
def _mapped(timed_out: str) -> Iterator[None]:
    """httpx's errors as ours. Its own texts can name addresses, so none of them is kept."""
    try:
        yield
    except (httpx.ConnectError, httpx.ConnectTimeout) as error:
        raise UpstreamUnreachable(UNREACHABLE, sent=False) from error
    except httpx.TimeoutException as error:
        raise UpstreamTimeout(timed_out) from error
    except (httpx.HTTPError, OSError) as error:
        raise UpstreamUnreachable(BROKE_OFF, sent=True) from error
