"""The elements of a JSON array, cut out of a byte stream as they were sent."""

from __future__ import annotations

import re
from collections.abc import Iterator

LARGEST_ELEMENT = 8 * 1024 * 1024
"""Bytes of one element that are kept; a larger one passes in pieces that nobody reads."""

_STRUCTURE = re.compile(rb'["\[\]{}]')
_IN_STRING = re.compile(rb'(?:[^"\\]++|\\.)*+', re.DOTALL)


class ArraySplitter:
    """Cuts an array of objects into its elements, whatever its chunks. The pieces joined are the stream, byte for
    byte. An object that stands where the array should is an element by itself.

    Attributes:
        closed: whether the array has come to its end.
    """

    __slots__ = (
        "_base", "_begun", "_depth", "_held", "_in_string", "_largest", "_oversized", "_scanned", "closed",
    )  # fmt: skip

    def __init__(self, largest_element: int = LARGEST_ELEMENT) -> None:
        self.closed = False
        self._held = bytearray()
        self._scanned = 0
        self._begun = False
        self._base: int | None = None  # the depth of brackets between elements
        self._depth = 0
        self._in_string = False
        self._largest = largest_element
        self._oversized = False

    def feed(self, chunk: bytes) -> list[tuple[bytes, bool]]:
        """The pieces that `chunk` completes: raw bytes, and whether they are all of one element or of the
        array's end.

        An element comes with what stands between it and the one before. What is too large to keep comes in pieces
        that are not whole.
        """
        held = self._held
        held += chunk
        pieces: list[tuple[bytes, bool]] = []
        start = 0
        for end in self._ends():
            pieces.append((bytes(held[start:end]), not self._oversized))
            self._oversized = False
            start = end
        if self._scanned - start > self._largest:
            pieces.append((bytes(held[start : self._scanned]), False))
            self._oversized = True
            start = self._scanned
        del held[:start]
        self._scanned -= start
        self._begun = self._begun or bool(pieces)
        return pieces

    def close(self) -> tuple[bytes, bool]:
        """The stream has ended: the rest, and whether it is all of its element."""
        rest = bytes(self._held), not self._oversized
        self._held.clear()
        self._scanned = 0
        return rest

    def end_of_pieces(self) -> bytes:
        """As of the other splitters: nothing has to follow a piece."""
        return b""

    def end(self, last: bytes) -> bytes:
        """What ends the array behind the pieces handed out so far, with a further element if `last` is one. Nothing
        where it has ended, and where only half of an element was handed out."""
        if self.closed or self._oversized:
            return b""
        separator = b"" if not last else b"," if self._begun else b"["
        return separator + last + b"]"

    def _ends(self) -> Iterator[int]:
        """Where elements, and then the array, end in what is held; what was scanned before is not again."""
        held, position = self._held, self._scanned
        while position < len(held) and not self.closed:
            if self._in_string:
                inside = _IN_STRING.match(held, position)
                position = inside.end() if inside else position
                if held[position : position + 1] != b'"':
                    break  # the string goes on in the next chunk, perhaps behind half an escape
                self._in_string = False
                position += 1
            elif (found := _STRUCTURE.search(held, position)) is None:
                position = len(held)
            else:
                position = found.end()
                if self._ends_at(found[0]):
                    yield position
        self._scanned = len(held) if self.closed else position

    def _ends_at(self, mark: bytes) -> bool:
        """Whether an element, or the array, ends with this bracket."""
        match mark:
            case b'"':
                self._in_string = True
            case b"[" | b"{":
                if self._base is None:
                    self._base = 1 if mark == b"[" else 0
                self._depth += 1
            case _:
                self._depth -= 1
                self.closed = self._depth <= 0
                return self.closed or self._depth == self._base
        return False
