"""How long sounds are, from the heads of files."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from govmiddleware.core.sound import LEAST_BYTES_A_SECOND, seconds_at_most

ID3 = b"ID3\x04\x00\x00\x00\x00\x02\x01" + bytes(257)
"""A tag of 257 bytes, a length that takes two of its bytes of seven bits each."""


def flac(rate: int, samples: int) -> bytes:
    info = bytes(10) + (rate << 44 | samples).to_bytes(8, "big") + bytes(16)
    return b"fLaC\x80\x00\x00\x22" + info


def xing(frames: int, *, version: int, rate: int, mono: bool) -> bytes:
    head = bytes([0xFF, 0xE3 | version << 3, 0x90 | rate << 2, 0xC0 if mono else 0])
    side = {(3, False): 32, (3, True): 17, (2, False): 17, (2, True): 9}[version, mono]
    return head + bytes(side) + b"Xing" + b"\x00\x00\x00\x01" + frames.to_bytes(4, "big")


@pytest.mark.parametrize(
    ("head", "length", "seconds"),
    [
        (flac(44_100, 441_000), 9, 10.0),
        (b"\xff\xfb\x90\x00", 160_000, 10.0),  # MPEG 1 at 128 kbit/s
        (b"\xff\xf3\x80\x00", 80_000, 10.0),  # MPEG 2 at 64 kbit/s
        (ID3 + b"\xff\xfb\x90\x00", 160_000 + len(ID3), 10.0),
        (xing(1000, version=3, rate=1, mono=False), 100_000, 24.0),
        (xing(1000, version=3, rate=1, mono=True), 100_000, 24.0),
        (xing(1000, version=2, rate=1, mono=True), 100_000, 24.0),
        (xing(1, version=3, rate=1, mono=False), 400_000, 10.0),  # what it says cannot be
        (flac(44_100, 1), 6_000_000, 10.0),  # what it says cannot be
        (b"OggS", 5 * LEAST_BYTES_A_SECOND, 5.0),
        (b"\xff\xfb\xf0\x00", 5 * LEAST_BYTES_A_SECOND, 5.0),  # no such bitrate
        (flac(0, 5), 5 * LEAST_BYTES_A_SECOND, 5.0),
        (b"", 0, 0.0),
    ],
)
def test_a_sound_is_as_long_as_its_head_says_or_its_bytes_allow(
    head: bytes, length: int, seconds: float
) -> None:
    assert seconds_at_most(head, length) == pytest.approx(seconds)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from([b"", b"fLaC", b"ID3", b"\xff\xfb", b"RIFF    WAVEfmt "]), st.binary(max_size=60))
def test_whatever_a_head_holds_a_length_comes_of_it(start: bytes, rest: bytes) -> None:
    assert seconds_at_most(start + rest, 10_000) >= 0
