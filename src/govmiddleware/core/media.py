"""How large pictures and sounds are, read from the first bytes of their files."""

from __future__ import annotations

import binascii
import re
import struct

HEAD = 96 * 1024
"""Characters of base64 that hold a file's head: a JPEG's size may stand behind what a camera wrote."""

_ONE_ALPHABET = bytes.maketrans(b"-_", b"+/")
_NO_BASE64 = re.compile(rb"[^A-Za-z0-9+/]")
_JPEG_SIZES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""Markers of the segments that begin a frame (ITU-T T.81, table B.1)."""

_RATES = range(4_000, 384_001)
"""Samples a second that sounds have."""

_WAV_SAMPLES = (1, 3)
_WAV_EXTENSIBLE = 0xFFFE
"""Format tags of what is not compressed, integers and floats, and of what says its own further on (Microsoft's
`mmreg.h`)."""


def decoded(data: str) -> bytes:
    """A file in base64 of either alphabet, with or without line ends and padding. What is cut ends early."""
    digits = _NO_BASE64.sub(b"", data.encode("ascii", "replace").translate(_ONE_ALPHABET))
    if len(digits) % 4 == 1:
        digits = digits[:-1]
    return binascii.a2b_base64(digits + b"=" * (-len(digits) % 4))


def head_of_data_url(url: str) -> bytes:
    """The beginning of the file in a `data:` URL (RFC 2397); empty for another URL."""
    if not url.startswith("data:"):
        return b""
    _, separator, data = url[: HEAD + 256].partition(";base64,")
    return decoded(data) if separator else b""


def image_size(head: bytes) -> tuple[int, int] | None:
    """Width and height in pixels of a PNG, JPEG, GIF or WebP file; None for what is none, or hides it."""
    try:
        if head.startswith(b"\x89PNG\r\n\x1a\n"):
            return _pair(">II", head, 16)
        if head.startswith((b"GIF87a", b"GIF89a")):
            return _pair("<HH", head, 6)
        if head.startswith(b"\xff\xd8"):
            return _jpeg_size(head)
        if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
            return _webp_size(head)
    except struct.error:  # it is cut short
        pass
    return None


def wav_seconds(head: bytes, length: int) -> float | None:
    """How long a WAV file of `length` bytes sounds; None for what is none, is compressed, or claims what no samples have:
    an odd rate, or frames of more bytes than their channels take."""
    if not (head.startswith(b"RIFF") and head[8:12] == b"WAVE"):
        return None
    place = 12
    while (name := head[place : place + 4]) != b"fmt ":  # other chunks may hold anything
        if not name:
            return None
        size = int.from_bytes(head[place + 4 : place + 8], "little")
        place += 8 + size + size % 2
    if len(head) < place + 24:
        return None
    form, channels, rate, _, frame, bits = struct.unpack_from("<HHIIHH", head, place + 8)
    if form == _WAV_EXTENSIBLE:
        form = int.from_bytes(head[place + 32 : place + 34], "little")
    most = channels * -(-bits // 8)
    is_plain = form in _WAV_SAMPLES and rate in _RATES and bits <= 64 and 0 < frame <= most
    return length / (rate * frame) if is_plain else None


def _pair(form: str, head: bytes, place: int) -> tuple[int, int]:
    first, second = struct.unpack_from(form, head, place)
    return first, second


def _jpeg_size(head: bytes) -> tuple[int, int] | None:
    place = 2
    while head[place : place + 1] == b"\xff":
        if head[place + 1] in _JPEG_SIZES:
            height, width = _pair(">HH", head, place + 5)
            return width, height
        (length,) = struct.unpack_from(">H", head, place + 2)
        place += 2 + length
    return None


def _webp_size(head: bytes) -> tuple[int, int] | None:
    match head[12:16]:
        case b"VP8 ":
            width, height = _pair("<HH", head, 26)
            return width & 0x3FFF, height & 0x3FFF
        case b"VP8L":
            (bits,) = struct.unpack_from("<I", head, 21)
            return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        case b"VP8X":
            low = struct.unpack_from("<HBHB", head, 24)
            return low[0] + (low[1] << 16) + 1, low[2] + (low[3] << 16) + 1
    return None
