"""AWS's event streams, `application/vnd.amazon.eventstream`: frames cut out of a byte stream as they were sent.

    total length u32 | length of the headers u32 | CRC of these 8 bytes u32 | headers | payload | CRC of all before u32

Big-endian, CRC-32 as in zlib. A header is the length of its name (u8), the name, its type (u8) and its value. Source:
smithy.io/2.0/aws/amazon-eventstream.html, and botocore's `eventstream.py`.

The checksum of a whole frame is the client's to check, who gets every byte as it came: what was sent is billed, damaged
or not.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from json import JSONDecoder
from struct import Struct
from typing import NamedTuple
from zlib import crc32

CONTENT_TYPE = b"application/vnd.amazon.eventstream"

LARGEST_FRAME = 8 * 1024 * 1024
"""Bytes of one frame that are kept; a larger one passes in pieces that nobody reads."""

_PRELUDE = Struct(">III")
_LENGTHS = Struct(">II")
_CHECKSUM = Struct(">I")
_SHORT = Struct(">H")
_LEAST = _PRELUDE.size + _CHECKSUM.size

_BYTES, _STRING = 6, 7
_SIZES = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}
"""Of the values of headers, in bytes, by their types but for the two that say their length."""

_MARK = re.compile(rb"[\x01-\x1f]:(?:event|exception)-type\x07")
"""How the first header of a frame begins. Nothing in JSON looks like it: its control characters are escaped."""
_LONGEST_MARK = 18
_HEADER = re.compile(r"[\x01-\x1f](:[a-z-]+)\x07\0[\x01-\x7f]([A-Za-z0-9/.+-]+)")
_json = JSONDecoder()


class Frame(NamedTuple):
    """What a frame says: its headers that are strings, and its payload."""

    headers: Mapping[str, str]
    payload: bytes


class FrameSplitter:
    """Cuts a stream into frames, whatever its chunks. The pieces joined are the stream, byte for byte.

    Where the beginning of a frame does not fit its checksum, nobody can tell where the next one begins. From there on
    the stream is cut wherever the first header of a frame seems to begin: so can recordings be read that were kept
    as texts.
    """

    __slots__ = ("_held", "_is_damaged", "_largest", "_rest", "_scanned")

    def __init__(self, largest_frame: int = LARGEST_FRAME) -> None:
        self._held = bytearray()
        self._is_damaged = False
        self._largest = largest_frame
        self._rest = 0  # bytes that are still to come of a frame that is too large to keep
        self._scanned = 0

    @property
    def between_frames(self) -> bool:
        """Whether a new frame may follow what was fed."""
        return not (self._held or self.inside_a_frame)

    @property
    def inside_a_frame(self) -> bool:
        """Whether a new frame could not follow the pieces handed out so far."""
        return self._is_damaged or self._rest > 0

    def feed(self, chunk: bytes) -> list[tuple[bytes, bool]]:
        """The pieces that `chunk` completes: raw bytes, and whether they may be one whole frame."""
        pieces: list[tuple[bytes, bool]] = []
        held = self._held
        held += chunk
        start = 0
        while not self._is_damaged and (size := self._size_of_next(start)):
            pieces.append((bytes(held[start : start + size]), not self._rest))
            self._rest = max(0, self._rest - size)
            start += size
        if self._is_damaged:
            start = self._split_at_marks(start, pieces)
        del held[:start]
        return pieces

    def close(self) -> tuple[bytes, bool]:
        """The stream has ended: the rest, which lacks something of its frame."""
        rest = bytes(self._held)
        self._held.clear()
        self._scanned = 0
        return rest, True

    def end_of_pieces(self) -> bytes:
        """As of the other splitters: nothing has to follow a piece."""
        return b""

    def _size_of_next(self, start: int) -> int:
        """Of the piece that begins at `start`: a frame, or what there is of one that is too large. 0: wait for more."""
        available = len(self._held) - start
        if not self._rest:
            if available < _PRELUDE.size:
                return 0
            total, headers, checksum = _PRELUDE.unpack_from(self._held, start)
            lengths = self._held[start : start + _LENGTHS.size]
            if crc32(lengths) != checksum or total < headers + _LEAST:
                self._is_damaged = True
                return 0
            if total <= self._largest:
                return int(total) if total <= available else 0
            self._rest = total
        return min(self._rest, available)

    def _split_at_marks(self, start: int, pieces: list[tuple[bytes, bool]]) -> int:
        held = self._held
        for mark in _MARK.finditer(held, max(start + 1, self._scanned)):
            pieces.append((bytes(held[start : mark.start()]), True))
            start = mark.start()
        if len(held) - start > self._largest:
            end = len(held) - _LONGEST_MARK
            pieces.append((bytes(held[start:end]), False))
            start = end
        self._scanned = max(0, len(held) - start - _LONGEST_MARK)
        return start


def read_frame(piece: bytes) -> Frame | None:
    """What a piece says; None where it says nothing that can be read."""
    try:
        return _whole(piece) or _marked(piece)
    except (IndexError, KeyError, ValueError, RecursionError):
        return None


def write_frame(headers: Mapping[str, str], payload: bytes) -> bytes:
    """The frame of headers that are strings, and a payload."""
    written = b"".join(
        bytes([len(name)]) + name.encode() + bytes([_STRING]) + _SHORT.pack(len(value)) + value.encode()
        for name, value in headers.items()
    )
    lengths = _LENGTHS.pack(_LEAST + len(written) + len(payload), len(written))
    frame = lengths + _CHECKSUM.pack(crc32(lengths)) + written + payload
    return frame + _CHECKSUM.pack(crc32(frame))


def _whole(piece: bytes) -> Frame | None:
    if len(piece) < _LEAST:
        return None
    total, size, checksum = _PRELUDE.unpack_from(piece)
    if total != len(piece) or crc32(piece[: _LENGTHS.size]) != checksum:
        return None
    end = _PRELUDE.size + size
    return Frame(_read_headers(piece[_PRELUDE.size : end]), piece[end : -_CHECKSUM.size])


def _read_headers(raw: bytes) -> dict[str, str]:
    headers = {}
    position = 0
    while position < len(raw):
        end_of_name = position + 1 + raw[position]
        name, kind = raw[position + 1 : end_of_name].decode(), raw[end_of_name]
        position = end_of_name + 1
        if kind in (_BYTES, _STRING):
            size = int.from_bytes(raw[position : position + _SHORT.size])
            position += _SHORT.size
        else:
            size = _SIZES[kind]
        if kind == _STRING:
            headers[name] = raw[position : position + size].decode()
        position += size
    return headers


def _marked(piece: bytes) -> Frame | None:
    """By its marks: what is before the payload's brace are headers, and what is behind it is not read."""
    if not _MARK.match(piece):
        return None
    text = piece.decode("utf-8", "replace")
    start = text.index("{")
    _, end = _json.raw_decode(text, start)
    return Frame(dict(_HEADER.findall(text, 0, start)), text[start:end].encode("utf-8", "replace"))
