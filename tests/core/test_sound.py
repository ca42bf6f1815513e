"""How long sounds are, from the heads of files."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from govmiddleware.core.sound import LEAST_BYTES_A_SECOND, seconds_at_most

ID3 = b"ID3\x04\x00\x00\x00\x00\x02\x01" + bytes(257)
"""A tag of 257 bytes, a length that takes two of its bytes of seven bits each."""


def flac(rate: int, samples: int) -> bytes:
    info = bytes(10) + (rate << 44 | samples).to_bytes(8, "big") + bytes(16)
    return b"fLaC\x80\x00\x00\x22" + info


def mp3(frame: bytes, size: int, count: int = 3, *, tag: bytes = b"") -> bytes:
    """Frames of one size each; the first may say after 32 bytes of its own what an encoder writes there."""
    plain = frame + bytes(size - 4)
    return plain[:36] + tag + plain[36 + len(tag) :] + plain * (count - 1)


def wav(
    tag: int, *, channels: int = 1, rate: int = 8_000, frame: int = 2, bits: int = 16, kind: int = 1
) -> bytes:
    body = struct.pack("<HHIIHHHHIH14x", tag, channels, rate, rate * frame, frame, bits, 22, bits, 0, kind)
    return b"RIFF\x00\x00\x00\x00WAVEfmt " + struct.pack("<I", len(body)) + body


MPEG_1, MPEG_2, MPEG_25 = b"\xff\xfb\x90\x00", b"\xff\xf3\x80\x00", b"\xff\xe3\x80\x00"
"""Heads of frames: at 128, 64 and 64 kbit/s, of 417, 208 and 417 bytes."""
SLOW = b"\xff\xfb\x10\x00" + bytes(100)
"""A frame at 32 kbit/s."""
QUIET = 5 * LEAST_BYTES_A_SECOND
"""Bytes that may hold five seconds, where nothing better is believed."""
HIDDEN = wav(0x55)[:12] + b"JUNK" + struct.pack("<I", 48) + wav(1)[12:60] + wav(0x55)[12:]


@pytest.mark.parametrize(
    ("head", "length", "seconds"),
    [
        (wav(1), 80_000, 5.0),
        (wav(3, frame=4, bits=32), 160_000, 5.0),
        (wav(0xFFFE), 80_000, 5.0),
        (wav(1, frame=3, bits=20), 120_000, 5.0),
        (wav(1)[:12] + b"JUNK\x03\x00\x00\x00\x00\x00\x00\x00" + wav(1)[12:], 80_000, 5.0),
        (wav(1, rate=384_000, frame=16, channels=8), 3_000_000, 5.0),  # it cannot be so dense
        (wav(0x55), QUIET, 5.0),  # MP3 within
        (wav(0x11), QUIET, 5.0),  # ADPCM
        (wav(0xFFFE, kind=0x55), QUIET, 5.0),
        (wav(1, frame=3), QUIET, 5.0),  # more than its samples take
        (wav(1, frame=2_000, bits=16_000), QUIET, 5.0),
        (HIDDEN, QUIET, 5.0),
        (mp3(MPEG_1, 417), 160_000, 10.0),
        (mp3(b"\xff\xfb\x92\x00", 418), 160_000, 10.0),  # padded
        (mp3(MPEG_2, 208), 80_000, 10.0),
        (mp3(MPEG_25, 417), 80_000, 10.0),
        (mp3(MPEG_1, 417)[:-100], 160_000, 10.0),  # what was read ends within a frame
        (mp3(MPEG_1, 417, tag=b"Info"), 160_000, 10.0),
        (mp3(MPEG_1, 417) + b"TAG" + bytes(125), 3 * 417 + 128, (3 * 417 + 128) / 16_000),
        (ID3 + mp3(MPEG_1, 417), 160_000 + len(ID3), 10.0),
        (mp3(MPEG_1, 417) + SLOW, QUIET, 5.0),
        (mp3(MPEG_1, 417, tag=b"Xing"), QUIET, 5.0),
        (mp3(MPEG_1, 417, tag=b"VBRI"), QUIET, 5.0),
        (mp3(MPEG_1, 417) + bytes(9), QUIET, 5.0),
        (b"ID3\x04\x00\x00\x00\x7f\x7f\x7f" + mp3(MPEG_1, 417), QUIET, 5.0),  # no frame is in what was read
        (b"\xff\xfb\xf0\x00", QUIET, 5.0),  # no such bitrate
        (flac(44_100, 441_000), QUIET, 10.0),
        (flac(44_100, 1), QUIET, 5.0),
        (flac(0, 5), QUIET, 5.0),
        (b"OggS", QUIET, 5.0),
        (b"", 0, 0.0),
    ],
)
def test_a_head_that_may_lie_makes_no_sound_shorter_than_its_bytes_allow(
    head: bytes, length: int, seconds: float
) -> None:
    assert seconds_at_most(head, length) == pytest.approx(seconds)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from([b"", b"fLaC", b"ID3", b"\xff\xfb", b"RIFF    WAVEfmt "]), st.binary(max_size=60))
def test_whatever_a_head_holds_a_length_comes_of_it(start: bytes, rest: bytes) -> None:
    assert seconds_at_most(start + rest, 10_000) >= 0
