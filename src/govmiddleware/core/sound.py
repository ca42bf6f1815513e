"""How long sounds are, read from the first bytes of their files."""

from __future__ import annotations

from govmiddleware.core.media import wav_seconds

LEAST_BYTES_A_SECOND = 2_000
"""Of sounds whose length does not show: speech at 16 kbit/s."""

_MOST_BYTES_A_SECOND = 600_000
_MOST_MP3_BYTES_A_SECOND = 40_000
"""Whatever a head says: of two channels of 24 bits at 96 kHz, and of an MP3."""

_MP3_KBITS = {  # by whether it is MPEG 1; of layer III (ISO/IEC 11172-3 and 13818-3)
    True: (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    False: (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_MP3_RATES = (44_100, 48_000, 32_000)
_MP3_PARTS = {3: 1, 2: 2, 0: 4}
"""By the bits of the version, MPEG 1, 2 and 2.5: by what the sample rate is divided."""
_MP3_SIDE = {(True, False): 32, (True, True): 17, (False, False): 17, (False, True): 9}
"""Bytes between a frame's head and its sound, by whether it is MPEG 1 and has one channel."""


def seconds_at_most(head: bytes, length: int) -> float:
    """How long a file of `length` bytes sounds: as its head says, of WAV, FLAC and MP3; else as long as so many bytes
    of quiet speech."""
    told = wav_seconds(head, length) or _flac_seconds(head) or _mp3_seconds(head, length)
    return length / LEAST_BYTES_A_SECOND if told is None else max(told, length / _MOST_BYTES_A_SECOND)


def _flac_seconds(head: bytes) -> float | None:
    """RFC 9639, 8.2: the first block has the sample rate in 20 bits, and after 8 more the samples in 36."""
    if not head.startswith(b"fLaC") or len(head) < 26:
        return None
    bits = int.from_bytes(head[18:26], "big")
    rate, samples = bits >> 44, bits & (1 << 36) - 1
    return samples / rate if rate and samples else None


def _mp3_seconds(head: bytes, length: int) -> float | None:
    place = 0
    if head.startswith(b"ID3") and len(head) >= 10:  # ID3v2: what stands before the sound
        place = 10 + sum(
            (byte & 0x7F) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True)
        )
    frame = head[place : place + 4]
    if len(frame) < 4 or frame[0] != 0xFF or frame[1] & 0xE6 != 0xE2:  # layer III alone
        return None
    version, kbits, rate = frame[1] >> 3 & 3, frame[2] >> 4, frame[2] >> 2 & 3
    if version == 1 or kbits in (0, 15) or rate == 3:
        return None
    is_first = version == 3
    size = max(0, length - place)
    tag = place + 4 + _MP3_SIDE[is_first, frame[3] >> 6 == 3]
    if head[tag : tag + 4] == b"Xing" and int.from_bytes(head[tag + 4 : tag + 8], "big") & 1:
        frames = int.from_bytes(head[tag + 8 : tag + 12], "big")  # the bitrate varies
        told = frames * (1152 if is_first else 576) * _MP3_PARTS[version] / _MP3_RATES[rate]
        return max(told, size / _MOST_MP3_BYTES_A_SECOND)
    return size * 8 / (_MP3_KBITS[is_first][kbits - 1] * 1000)
