"""Lines, cut out of a byte stream as they were sent: JSON objects with a line feed after each."""

from __future__ import annotations

LARGEST_LINE = 8 * 1024 * 1024
"""Bytes of one line that are kept; a larger one passes in pieces that nobody reads."""


class LineSplitter:
    """Cuts a stream into lines, whatever its chunks. The pieces joined are the stream, byte for byte."""

    __slots__ = ("_held", "_largest", "_oversized")

    def __init__(self, largest_line: int = LARGEST_LINE) -> None:
        self._held = bytearray()
        self._largest = largest_line
        self._oversized = False

    def feed(self, chunk: bytes) -> list[tuple[bytes, bool]]:
        """The pieces that `chunk` completes: raw bytes with their line feed, and whether they are one whole line."""
        first, *lines = chunk.split(b"\n")
        self._held += first
        pieces: list[tuple[bytes, bool]] = []
        for line in lines:
            pieces.append((bytes(self._held) + b"\n", not self._oversized))
            self._oversized = False
            self._held[:] = line
        if len(self._held) > self._largest:
            pieces.append((bytes(self._held), False))
            self._held.clear()
            self._oversized = True
        return pieces

    def close(self) -> tuple[bytes, bool]:
        """The stream has ended: the rest, and whether it is all of its line."""
        rest = bytes(self._held), not self._oversized
        self._held.clear()
        return rest

    def end_of_pieces(self) -> bytes:
        """What has to follow the pieces handed out so far for a new line to begin."""
        return b"\n" if self._oversized else b""
