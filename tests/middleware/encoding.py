"""Bodies under content codings, as servers send them: flushed after each piece, so that a client can read it."""

from __future__ import annotations

import sys
import zlib
from collections.abc import Iterable, Sequence
from typing import Any

import brotli

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

CODINGS = ("gzip", "deflate", "br", "zstd")


class _Brotli:
    def __init__(self) -> None:
        self._data = brotli.Compressor(quality=1)

    def encode(self, piece: bytes) -> bytes:
        return bytes(self._data.process(piece) + self._data.flush())

    def finish(self) -> bytes:
        return bytes(self._data.finish())


class _Other:
    def __init__(self, data: Any, flush: int) -> None:
        self._data, self._flush = data, flush

    def encode(self, piece: bytes) -> bytes:
        return bytes(self._data.compress(piece) + self._data.flush(self._flush))

    def finish(self) -> bytes:
        return bytes(self._data.flush())


def _encoder(coding: str) -> _Brotli | _Other:
    if coding == "br":
        return _Brotli()
    if coding == "zstd":
        return _Other(zstd.ZstdCompressor(level=1), zstd.ZstdCompressor.FLUSH_BLOCK)
    return _Other(zlib.compressobj(1, wbits=31 if coding == "gzip" else 15), zlib.Z_SYNC_FLUSH)


def encoded(pieces: Iterable[bytes], codings: Sequence[str]) -> list[bytes]:
    """Each piece as it is sent, and what ends them; the codings in the order of the header."""
    chunks = list(pieces)
    for coding in codings:
        encoder = _encoder(coding)
        *chunks, last = [*map(encoder.encode, chunks), encoder.finish()]
        chunks.append(last)
    return chunks
