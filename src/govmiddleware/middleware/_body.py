"""Request bodies: read once, within bounds, and handed on as they were judged."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
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


async def read_body(
    headers: Mapping[bytes, bytes], receive: Receive, *, max_bytes: int, timeout_seconds: float
) -> bytes:
    """The whole body, decoded.

    Raises BodyTooLarge, before or after decoding; BodyTooSlow; UnsupportedEncoding; ClientClosed where
    the client left before its end.
    """
    encoding = headers.get(b"content-encoding")
    decoder = _decoder(encoding.decode("latin-1")) if encoding else None
    ends = _ends(headers, max_bytes, timeout_seconds)
    raw, more = await _chunk(receive, ends, timeout_seconds)
    if more:
        chunks, size = [raw], len(raw)
        while more and size <= max_bytes:
            chunk, more = await _chunk(receive, ends, timeout_seconds)
            chunks.append(chunk)
            size += len(chunk)
        raw = b"".join(chunks)
    if len(raw) > max_bytes:
        raise _too_large(max_bytes)
    return await compute(partial(_decode, decoder, raw, max_bytes)) if decoder else raw


async def body_chunks(
    headers: Mapping[bytes, bytes], receive: Receive, *, max_bytes: int, timeout_seconds: float
) -> AsyncIterator[bytes]:
    """The body as it arrives. Raises as `read_body`, but for the encoding."""
    ends = _ends(headers, max_bytes, timeout_seconds)
    size, more = 0, True
    while more:
        chunk, more = await _chunk(receive, ends, timeout_seconds)
        size += len(chunk)
        if size > max_bytes:
            raise _too_large(max_bytes)
        yield chunk


def refuse_encoding(headers: Mapping[bytes, bytes]) -> None:
    """Raises UnsupportedEncoding for a body that is encoded: of forms none is."""
    if _decoder(headers.get(b"content-encoding", b"").decode("latin-1")):
        raise UnsupportedEncoding("A form must not be encoded.", param="content-encoding")


def replay(body: RequestBody, receive: Receive) -> Receive:
    """A `receive` that gives the body as it stands when the app asks for it, then the client's own
    messages, so that its disconnect arrives."""
    pieces: Iterator[bytes] | None = None
    piece: bytes | None = b""

    async def replayed() -> Message:
        nonlocal pieces, piece
        if pieces is None:
            pieces = body.pieces()
            piece = next(pieces, b"")
        if piece is None:
            return await receive()
        given, piece = piece, next(pieces, None)
        return {"type": "http.request", "body": given, "more_body": piece is not None}

    return replayed


def with_body_headers(
    scope: Scope, body: RequestBody, *, replace: Iterable[tuple[bytes, bytes]] = ()
) -> Scope:
    """A copy of the scope whose headers fit the body, with further headers replaced.

    The content type is the one as which it was judged: an upstream that took JSON for a form, of the same bytes,
    would read other fields. A name with an underscore goes with its twin: CGI and WSGI make both one variable.
    """
    replaced = {b"content-type": body.content_type, **dict(replace)}
    headers = [
        (name, value)
        for name, value in scope["headers"]
        if (meant := name.replace(b"_", b"-")) not in _REPLACED_HEADERS and meant not in replaced
    ]
    headers += [*replaced.items(), (b"content-length", str(len(body)).encode())]
    return {**scope, "headers": headers}


def _ends(headers: Mapping[bytes, bytes], max_bytes: int, timeout_seconds: float) -> float:
    """When the body has to be whole, by the loop's clock. Raises BodyTooLarge for what says that it is."""
    length = headers.get(b"content-length", b"")
    if length.isdigit() and (len(length) > 20 or int(length) > max_bytes):
        raise _too_large(max_bytes)
    return asyncio.get_running_loop().time() + timeout_seconds


async def _chunk(receive: Receive, ends: float, timeout_seconds: float) -> tuple[bytes, bool]:
    """The next of the body, and whether there is more."""
    try:
        async with asyncio.timeout_at(ends):
            message = await receive()
    except TimeoutError:
        raise BodyTooSlow(f"The request body did not arrive within {timeout_seconds:g} s.") from None
    if message["type"] == "http.disconnect":
        raise ClientClosed("The client closed the connection before its request was complete.")
    return message.get("body", b""), message.get("more_body", False)


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
