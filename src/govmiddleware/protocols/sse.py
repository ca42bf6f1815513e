"""Server-sent events, cut out of a byte stream as they were sent.

https://html.spec.whatwg.org/multipage/server-sent-events.html: lines end in LF, CRLF or CR, an empty
line ends an event.
"""

from __future__ import annotations

import re

LARGEST_EVENT = 8 * 1024 * 1024
"""Bytes of one event that are kept; a larger one passes in pieces that nobody reads."""

_END_OF_EVENT = re.compile(rb"(?:\r\n?+|\n)(?:\r\n?+|\n)")
_LINE_END = re.compile(rb"\r\n|\n|\r")


class EventSplitter:
    """Cuts a stream into events, whatever its chunks. The pieces joined are the stream, byte for byte.

    Attributes:
        held: the beginning of an event that is not whole yet.
    """

    __slots__ = ("_largest", "_oversized", "_scanned", "held")

    def __init__(self, largest_event: int = LARGEST_EVENT) -> None:
        self.held = bytearray()
        self._scanned = 0
        self._largest = largest_event
        self._oversized = False

    def feed(self, chunk: bytes) -> list[tuple[bytes, bool]]:
        """The pieces that `chunk` completes: raw bytes, and whether they are one whole event.

        An event ends with its empty line. What is too large to keep comes in pieces that are not whole.
        """
        if self.held or self._oversized or not chunk.endswith(b"\n\n") or b"\r" in chunk:
            return self._split(chunk)
        if chunk.find(b"\n\n") == len(chunk) - 2:
            return [(chunk, True)]  # one event a chunk: what most servers send
        return [(event + b"\n\n", True) for event in chunk.split(b"\n\n")[:-1]]

    def close(self) -> tuple[bytes, bool]:
        """The stream has ended: the rest, which lacks its empty line, and whether it is all of its event."""
        rest = bytes(self.held), not self._oversized
        self.held.clear()
        self._scanned = 0
        return rest

    def end_of_pieces(self) -> bytes:
        """What has to follow the pieces handed out so far for a new event to begin."""
        return b"\n\n" if self._oversized else b""

    def _split(self, chunk: bytes) -> list[tuple[bytes, bool]]:
        pieces: list[tuple[bytes, bool]] = []
        held = self.held
        held += chunk
        start = 0
        position = self._scanned
        for end in _END_OF_EVENT.finditer(held, position):
            if end.end() == len(held) and held.endswith(b"\r"):
                break  # perhaps half of a CRLF: the event's last byte may be in the next chunk
            pieces.append((bytes(held[start : end.end()]), not self._oversized))
            self._oversized = False
            start = end.end()
        del held[:start]
        if len(held) > self._largest:
            # Three bytes stay, so that an end that is cut between two chunks is still found.
            pieces.append((bytes(held[:-3]), False))
            del held[:-3]
            self._oversized = True
        self._scanned = max(0, len(held) - 3)
        return pieces


def data_of(event: bytes) -> bytes | None:
    """The data of an event, its lines joined by LF; None where it has none (comments, pings)."""
    if b"\r" not in event:
        start = event.find(b"\n") + 1 if event.startswith(b"event: ") else 0
        # One line of it, behind its type or alone: what servers send.
        if event.startswith(b"data: ", start) and event.find(b"\n", start) >= len(event) - 2:
            return event[start + 6 :].rstrip(b"\n")
    values = []
    for line in _LINE_END.split(event):
        name, _, value = line.partition(b":")
        if name == b"data":
            values.append(value.removeprefix(b" "))
    return b"\n".join(values) if values else None
