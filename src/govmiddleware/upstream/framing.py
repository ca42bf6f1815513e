"""How a request body is handed to an HTTP client, in small pieces, with its length where it is known; and
which answers are none."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from functools import lru_cache

from govmiddleware.core.ports import Headers
from govmiddleware.errors import UpstreamUnreachable

PIECE_BYTES = 64 * 1024
KEEPALIVE_SECONDS = 4.0
"""How long an idle connection is kept. Less than the 5 s of uvicorn, which serves most self-hosted
upstreams: a connection that closes as it is taken up again costs a request that cannot be repeated."""

UNREACHABLE = "The upstream could not be reached."
BROKE_OFF = "The connection to the upstream broke off."
NO_ANSWER = "The upstream did not answer in time."
STALLED = "The upstream stopped in the middle of its answer."
NO_HTTP = "The upstream's answer is not valid HTTP."

_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""RFC 9110, 5.6.2."""


def check_head(status: int, headers: Headers) -> None:
    """Raise UpstreamUnreachable for a head that neither library refuses and nobody can pass on: the end of
    an exchange that we did not begin (101), a status or a name that HTTP does not have, a body in a coding
    that was not undone, or of two lengths."""
    codings, has_length, is_http = 0, False, 200 <= status <= 599
    for name, value in headers:
        if name == b"transfer-encoding":
            codings += 1
            is_http = is_http and value.strip().lower() == b"chunked"
        elif name == b"content-length":
            has_length = True
        else:
            is_http = is_http and _is_token(name)
    if not is_http or codings + has_length > 1:
        raise UpstreamUnreachable(NO_HTTP, sent=True)


@lru_cache(maxsize=1024)
def _is_token(name: bytes) -> bool:
    return _TOKEN.fullmatch(name) is not None


def with_length(headers: Headers, method: str, body: bytes | AsyncIterator[bytes] | None) -> Headers:
    """The headers with `content-length` where the length is known and the headers do not say it.

    A body of unknown length is left to the client's chunked coding; a method that usually has a body
    says 0 without one (RFC 9110 8.6).
    """
    if any(name == b"content-length" for name, _ in headers):
        return headers
    if isinstance(body, bytes):
        return [*headers, (b"content-length", b"%d" % len(body))]
    if body is None and method in ("POST", "PUT", "PATCH"):
        return [*headers, (b"content-length", b"0")]
    return headers


class Watched:
    """A body that says when its first piece is taken: a connection stands then, and not before.

    Args:
        leaves: called once.
    """

    def __init__(self, body: bytes | AsyncIterator[bytes], leaves: Callable[[], None] | None) -> None:
        self._pieces: AsyncIterator[bytes] = Pieces(body) if isinstance(body, bytes) else body
        self._leaves = leaves

    def __aiter__(self) -> Watched:
        return self

    async def __anext__(self) -> bytes:
        if self._leaves:
            leaves, self._leaves = self._leaves, None
            leaves()
        return await anext(self._pieces)


class Pieces:
    """A whole body as an iterator: what waits in a socket's buffer stays small, and a timeout for each
    piece tells a slow upload from a stalled one.

    A class, since an abandoned async generator would need the loop to finish it.
    """

    def __init__(self, body: bytes) -> None:
        self._rest = memoryview(body)

    def __aiter__(self) -> Pieces:
        return self

    async def __anext__(self) -> bytes:
        if not self._rest:
            raise StopAsyncIteration
        piece, self._rest = self._rest[:PIECE_BYTES], self._rest[PIECE_BYTES:]
        return bytes(piece)
