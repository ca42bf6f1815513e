"""Request bodies: read once, within bounds, and handed on as they were judged."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Iterable
from functools import partial

from starlette.types import Message, Receive, Scope

from govmiddleware.core.body import RequestBody
from govmiddleware.core.refusals import (
    BodyTooLarge,
    BodyTooSlow,
    ClientClosed,
    InvalidRequest,
    UnsupportedEncoding,
)
from govmiddleware.services.turns import compute

_REPLACED_HEADERS = frozenset({b"content-length", b"content-encoding", b"transfer-encoding", b"trailer"})


async def read_body(scope: Scope, receive: Receive, *, max_bytes: int, timeout_seconds: float) -> bytes:
    """The whole body, decoded.

    Raises BodyTooLarge, before or after decoding; BodyTooSlow; UnsupportedEncoding; ClientClosed where
    the client left before its end.
    """
    headers = dict(scope["headers"])
    length = headers.get(b"content-length", b"")
    if length.isdigit() and (len(length) > 20 or int(length) > max_bytes):
        raise _too_large(max_bytes)
    decoder = _decoder(headers.get(b"content-encoding", b"").decode("latin-1"))
    try:
        async with asyncio.timeout(timeout_seconds):
            raw = await _collect(receive, max_bytes)
    except TimeoutError:
        raise BodyTooSlow(f"The request body did not arrive within {timeout_seconds:g} s.") from None
    return await compute(partial(_decode, decoder, raw, max_bytes)) if decoder else raw


def replay(body: RequestBody, receive: Receive) -> Receive:
    """A `receive` that gives the body as it stands when the app asks for it, then the client's own
    messages, so that its disconnect arrives."""
    given = False

    async def replayed() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body.serialise(), "more_body": False}

    return replayed


def with_body_headers(
    scope: Scope, body: RequestBody, *, replace: Iterable[tuple[bytes, bytes]] = ()
) -> Scope:
    """A copy of the scope whose headers fit the body, with further headers replaced.

    The content type is JSON, as which it was judged: an upstream that took the same bytes for a form would
    read other fields. A name with an underscore goes with its twin: CGI and WSGI make both one variable.
    """
    replaced = {b"content-type": b"application/json", **dict(replace)}
    headers = [
        (name, value)
        for name, value in scope["headers"]
        if (meant := name.replace(b"_", b"-")) not in _REPLACED_HEADERS and meant not in replaced
    ]
    headers += [*replaced.items(), (b"content-length", str(len(body)).encode())]
    return {**scope, "headers": headers}


async def _collect(receive: Receive, max_bytes: int) -> bytes:
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientClosed("The client closed the connection before its request was complete.")
        chunk: bytes = message.get("body", b"")
        size += len(chunk)
        if size > max_bytes:
            raise _too_large(max_bytes)
        chunks.append(chunk)
        if not message.get("more_body", False):
            return b"".join(chunks)


def _decoder(encoding: str) -> zlib._Decompress | None:
    match encoding.strip().lower():
        case "" | "identity":
            return None
        case "gzip" | "x-gzip":
            return zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
        case "deflate":
            return zlib.decompressobj()
        case other:
            raise UnsupportedEncoding(
                f"Content-Encoding {other!r} is not supported: send gzip, deflate or none.",
                param="content-encoding",
            )


def _decode(decoder: zlib._Decompress, raw: bytes, max_bytes: int) -> bytes:
    try:
        decoded = decoder.decompress(raw, max_bytes + 1)
    except zlib.error as error:
        raise InvalidRequest(f"The request body cannot be decoded: {error}") from error
    if len(decoded) > max_bytes:
        raise _too_large(max_bytes)
    if not decoder.eof or decoder.unused_data:
        raise InvalidRequest("The encoded request body is not one whole stream.")
    return decoded


def _too_large(max_bytes: int) -> BodyTooLarge:
    return BodyTooLarge(f"The request body is larger than {max_bytes} bytes.")
