"""Content codings of answers (RFC 9110, 8.4), undone piece by piece beside the relay.

What the client receives stays encoded as it came; what comes out here is only read. However little is sent for
much (a decompression bomb), what is held at any time is small: pieces of `PIECE`, and each coding's own window.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import brotli

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

PIECE = 16_384
"""Bytes, about: what is decoded at once. Reading as many takes a reader about a millisecond."""

MOST_DECODED = 256 * 1024 * 1024
"""Bytes of one answer. No real one is so long; what expands to more is not worth the time."""

_MOST_CODINGS = 4
_ZSTD_WINDOW_LOG = 23
"""8 MiB: what RFC 9659 allows with HTTP."""


class Undecodable(Exception):
    """The bytes are not what their content coding says, or too many."""


class Decoder:
    """Undoes the codings of one body.

    Args:
        codings: in the order in which they were applied, which is that of the header.
    """

    def __init__(self, codings: Sequence[bytes], *, most: int = MOST_DECODED) -> None:
        self._stages = [_STAGES[coding]() for coding in reversed(codings)]
        self._left = most

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """What a chunk of the encoded body adds to the decoded one. Raises Undecodable, after which it is of no
        further use."""
        try:
            for piece in _through(self._stages, chunk):
                self._left -= len(piece)
                if self._left < 0:
                    raise Undecodable("it is too large when decoded")
                yield piece
        except (zlib.error, brotli.error, zstd.ZstdError) as error:
            raise Undecodable(str(error)) from error


def codings_of(values: Sequence[bytes]) -> list[bytes]:
    """The codings that a message's `content-encoding` headers name, identity left out, in lower case."""
    named = [name.strip().lower() for value in values for name in value.split(b",")]
    return [name for name in named if name not in (b"", b"identity")]


def can_decode(codings: Sequence[bytes]) -> bool:
    """Whether a Decoder knows them all, and they are not absurdly many."""
    return len(codings) <= _MOST_CODINGS and all(coding in _STAGES for coding in codings)


class _Stage(Protocol):
    """One coding."""

    def decode(self, chunk: bytes) -> Iterator[bytes]: ...


def _through(stages: Sequence[_Stage], chunk: bytes) -> Iterator[bytes]:
    if not stages:
        if chunk:
            yield chunk
        return
    for start in range(0, len(chunk), PIECE):
        for piece in stages[0].decode(chunk[start : start + PIECE]):
            yield from _through(stages[1:], piece)


class _Gzip:
    """RFC 1952: members one after the other, perhaps padded with zeros."""

    def __init__(self) -> None:
        self._member = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)

    def decode(self, chunk: bytes) -> Iterator[bytes]:
        while chunk:
            if self._member.eof:
                chunk = chunk.lstrip(b"\0")
                self._member = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
            yield from _inflate(self._member, chunk)
            chunk = self._member.unused_data


class _Deflate:
    """RFC 1950, or the bare RFC 1951 that some senders take "deflate" for. What follows its end is no part of it."""

    def __init__(self) -> None:
        self._data: zlib._Decompress | None = None

    def decode(self, chunk: bytes) -> Iterator[bytes]:
        if self._data is None:
            says_zlib = chunk[0] & 0x0F == zlib.DEFLATED
            self._data = zlib.decompressobj(wbits=zlib.MAX_WBITS if says_zlib else -zlib.MAX_WBITS)
        if not self._data.eof:
            yield from _inflate(self._data, chunk)


class _Brotli:
    """RFC 7932."""

    def __init__(self) -> None:
        self._data = brotli.Decompressor()

    def decode(self, chunk: bytes) -> Iterator[bytes]:
        piece = self._data.process(chunk, output_buffer_limit=PIECE)
        yield piece
        # It may have taken all of the chunk and still have output of it: then the last piece was a full one.
        while len(piece) >= PIECE or not self._data.can_accept_more_data():
            piece = self._data.process(b"", output_buffer_limit=PIECE)
            yield piece


class _Zstd:
    """RFC 8878: frames one after the other."""

    def __init__(self) -> None:
        self._frame = self._new_frame()

    def decode(self, chunk: bytes) -> Iterator[bytes]:
        while chunk:
            if self._frame.eof:
                self._frame = self._new_frame()
            yield self._frame.decompress(chunk, PIECE)
            while not self._frame.needs_input and not self._frame.eof:
                yield self._frame.decompress(b"", PIECE)
            chunk = self._frame.unused_data

    def _new_frame(self) -> zstd.ZstdDecompressor:
        return zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: _ZSTD_WINDOW_LOG})


def _inflate(data: zlib._Decompress, chunk: bytes) -> Iterator[bytes]:
    while True:
        piece = data.decompress(chunk, PIECE)
        yield piece
        chunk = data.unconsumed_tail
        if data.eof or not (chunk or len(piece) >= PIECE):
            return


_STAGES: dict[bytes, Callable[[], _Stage]] = {
    b"gzip": _Gzip,
    b"x-gzip": _Gzip,
    b"deflate": _Deflate,
    b"br": _Brotli,
    b"zstd": _Zstd,
}

READABLE = frozenset({*_STAGES, b"identity"})
"""What an upstream may be asked for."""
