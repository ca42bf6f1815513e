"""Sizes of pictures and sounds, from the heads of files."""

from __future__ import annotations

import base64
import io
import struct
import wave
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from govmiddleware.core.media import decoded, image_size, wav_seconds


def png(width: int, height: int) -> bytes:
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))


def jpeg(width: int, height: int) -> bytes:
    exif = b"\xff\xe1" + struct.pack(">H", 2 + 5_000) + b"\xff\xc0" * 2_500
    frame = b"\xff\xc2" + struct.pack(">HBHHB", 17, 8, height, width, 3) + bytes(9)
    return b"\xff\xd8" + exif + frame


def webp(kind: bytes, body: bytes) -> bytes:
    return (
        b"RIFF" + struct.pack("<I", 4 + 8 + len(body)) + b"WEBP" + kind + struct.pack("<I", len(body)) + body
    )


PICTURES = {
    "PNG": png(540, 360),
    "JPEG behind EXIF": jpeg(540, 360),
    "GIF": b"GIF89a" + struct.pack("<HH", 540, 360) + bytes(3),
    "WebP": webp(b"VP8 ", b"\x00\x00\x00\x9d\x01\x2a" + struct.pack("<HH", 540, 360 | 0x4000)),
    "lossless WebP": webp(b"VP8L", b"\x2f" + struct.pack("<I", 539 | 359 << 14)),
    "extended WebP": webp(b"VP8X", bytes(4) + (539).to_bytes(3, "little") + (359).to_bytes(3, "little")),
}


@pytest.mark.parametrize("kind", PICTURES)
def test_the_size_of_a_picture_stands_in_its_head(kind: str) -> None:
    assert image_size(PICTURES[kind]) == (540, 360)
    for end in range(0, len(PICTURES[kind]), 97):
        assert image_size(PICTURES[kind][:end]) in (None, (540, 360))


def test_what_is_no_picture_has_no_size() -> None:
    assert image_size(b"%PDF-1.4") is None
    assert image_size(b"") is None


def test_a_wav_is_as_long_as_its_samples() -> None:
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(2)
        sound.setsampwidth(2)
        sound.setframerate(16_000)
        sound.writeframes(bytes(3 * 16_000 * 4))
    raw = file.getvalue()
    seconds = wav_seconds(raw[:200], len(raw))
    assert seconds is not None
    assert 3 <= seconds < 3.01
    assert wav_seconds(b"ID3\x04", 1000) is None
    assert wav_seconds(raw[:30], 1000) is None
    assert wav_seconds(raw[:24] + b"\xff" * 4 + raw[28:200], len(raw)) is None  # a rate of four billion


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 4))
def test_base64_is_read_in_either_alphabet_and_however_it_is_cut(raw: bytes, cut: int) -> None:
    assert decoded(base64.b64encode(raw).decode()) == raw
    assert decoded(base64.urlsafe_b64encode(raw).decode().rstrip("=")) == raw
    assert decoded(base64.encodebytes(raw).decode()) == raw
    digits = base64.b64encode(raw).decode()
    assert raw.startswith(decoded(digits[: len(digits) - cut]))


@settings(max_examples=50, deadline=None)
@given(
    st.binary(max_size=60),
    st.sampled_from([b"", b"\xff\xd8", b"\x89PNG\r\n\x1a\n", b"RIFF1234WEBP", b"RIFF1234WAVE", b"GIF89a"]),
)
def test_any_bytes_are_read_or_not(raw: bytes, start: bytes) -> None:
    image_size(start + raw)
    wav_seconds(start + raw, 100)


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=60))
def test_any_text_is_decoded_somehow(text: str) -> None:
    decoded(text)
