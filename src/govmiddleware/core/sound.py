"""How long sounds are, read from the first bytes of their files."""

from __future__ import annotations

from govmiddleware.core.media import wav_seconds

LEAST_BYTES_A_SECOND = 2_000
"""Of sounds whose length does not show: speech at 16 kbit/s."""

_MOST_BYTES_A_SECOND = 600_000
"""Of samples, whatever a head says: two channels of 24 bits at 96 kHz."""

_MP3_KBITS = {  # by whether it is MPEG 1; of layer III (ISO/IEC 11172-3 and 13818-3)
    True: (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    False: (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_MP3_RATES = (44_100, 48_000, 32_000)
_MP3_PARTS = {3: 1, 2: 2, 0: 4}
"""By the bits of the version, MPEG 1, 2 and 2.5: by what the sample rate is divided."""
_MP3_LONGEST_END = 128
"""Bytes of a tag that may stand behind the last frame (ID3v1)."""


def seconds_at_most(head: bytes, length: int) -> float:
    """How long a file of `length` bytes sounds, as far as its head can not make it shorter than it is: WAV that is not
    compressed by its samples, MP3 of one bit rate by that; all else as long as so many bytes of quiet speech, or
    longer where a FLAC says so."""
    samples = wav_seconds(head, length)
    if samples is not None:
        return max(samples, length / _MOST_BYTES_A_SECOND)
    constant = _mp3_seconds(head, length)
    if constant is not None:
        return constant
    return max(length / LEAST_BYTES_A_SECOND, _flac_seconds(head))


def _flac_seconds(head: bytes) -> float:
    """RFC 9639, 8.2: the first block has the sample rate in 20 bits, and after 8 more the samples in 36."""
    if not head.startswith(b"fLaC") or len(head) < 26:
        return 0
    bits = int.from_bytes(head[18:26], "big")
    rate, samples = bits >> 44, bits & (1 << 36) - 1
    return samples / rate if rate else 0


def _mp3_seconds(head: bytes, length: int) -> float | None:
    """None where the bit rate varies: in the frames of the head, or as an encoder's tag in the first one says."""
    start = 0
    if head.startswith(b"ID3") and len(head) >= 10:  # ID3v2: what stands before the sound
        start = 10 + sum(
            (byte & 0x7F) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True)
        )
    first = head[start : start + 40]
    if b"Xing" in first or b"VBRI" in first:
        return None
    rates, place = set(), start
    while place + 4 <= len(head) and length - place > _MP3_LONGEST_END:
        frame = _mp3_frame(head[place : place + 4])
        if frame is None:
            return None
        kbits, size = frame
        rates.add(kbits)
        place += size
    return (length - start) * 8 / (rates.pop() * 1000) if len(rates) == 1 else None


def _mp3_frame(head: bytes) -> tuple[int, int] | None:
    """Its kbit/s, and its size in bytes; None for what begins no frame of layer III."""
    if head[0] != 0xFF or head[1] & 0xE6 != 0xE2:
        return None
    version, kbits, rate = head[1] >> 3 & 3, head[2] >> 4, head[2] >> 2 & 3
    if version == 1 or kbits in (0, 15) or rate == 3:
        return None
    is_first = version == 3
    told = _MP3_KBITS[is_first][kbits - 1]
    samples = 1152 if is_first else 576
    size = samples * told * 125 * _MP3_PARTS[version] // _MP3_RATES[rate] + (head[2] >> 1 & 1)
    return told, size
