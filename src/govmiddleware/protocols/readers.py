"""What all readers of answers have in common: the UsageReader of unstreamed answers and of event streams."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Protocol

import msgspec

from govmiddleware.core.usage import Usage
from govmiddleware.protocols.sse import EventSplitter

LARGEST_ANSWER = 32 * 1024 * 1024
"""Bytes of an unstreamed answer that are kept to find its usage at the end."""

LARGEST_COUNT = 2**40
"""A reported count beyond this is a fault, not usage: it would put every counter out of order."""

_SHORT = 4096
"""Bytes. A longer chunk is read at once."""

UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
members = msgspec.json.Decoder(dict[str, msgspec.Raw])
_object = msgspec.json.Decoder(dict[str, Any])


class JsonReader(ABC):
    """Reads an unstreamed answer. Every chunk passes at once; a copy is read when the body has ended.

    For protocols to say, in `_read`, what an answer says, and in `_answers` what of it they read.
    """

    _answers: ClassVar[msgspec.json.Decoder[Any]] = members

    def __init__(self) -> None:
        self.usage: Usage | None = None
        self.model: str | None = None
        self.service_tier: str | None = None
        self._kept = bytearray()
        self._size = 0
        self.finished = False
        self._delivered: list[str] = []

    def feed(self, chunk: bytes) -> bytes:
        self._size += len(chunk)
        if self._size <= LARGEST_ANSWER:
            self._kept += chunk
        else:
            self._kept.clear()
        return chunk

    def close(self) -> bytes:
        raw, self._kept = self._kept, bytearray()
        try:
            answer = self._answers.decode(raw)
            self.finished = True
            self._read(answer)
        except UNREADABLE:
            self.finished = self.finished or self._read_other(bytes(raw))
        return b""

    def cut(self, usage: Usage, *, model: str, request_id: str) -> bytes:
        return b""

    def take_delivered(self) -> list[str]:
        delivered, self._delivered = self._delivered, []
        return delivered

    @abstractmethod
    def _read(self, answer: Any) -> None:
        """Take what the answer says, as `_answers` decodes it. May raise what is in UNREADABLE."""

    def _read_other(self, raw: bytes) -> bool:
        """Take what an answer says that is cut, or not an object; whether it may be whole."""
        return False


class NothingUsed(JsonReader):
    """Of answers that cost nothing: what was counted was not used."""

    def _read(self, answer: dict[str, msgspec.Raw]) -> None:
        self.usage = Usage()


class Splitter(Protocol):
    """Cuts a stream into what it is made of, whatever its chunks (see `sse.EventSplitter`)."""

    def feed(self, chunk: bytes) -> list[tuple[bytes, bool]]: ...

    def close(self) -> tuple[bytes, bool]: ...

    def end_of_pieces(self) -> bytes: ...


class StreamReader(ABC):
    """Reads a stream of events as they pass.

    Every chunk of bytes passes as it came; with `holds`, an incomplete event is held back. For protocols
    to say, in `_pass` and `_end`, what an event says, and how a stream is ended before its time.

    With `reads_late`, chunks that say nothing that has to be known at once, which are nearly all, wait until their
    texts are asked for (`_unread`): to read several at a time costs less, as one by one each finds cold caches.
    """

    def __init__(self, *, holds: bool, reads_late: bool = False) -> None:
        self.usage: Usage | None = None
        self.model: str | None = None
        self.service_tier: str | None = None
        self._sse = EventSplitter()
        self._events: Splitter = self._sse
        self._holds = holds
        self._reads_late = reads_late
        self.finished = False
        self._delivered: list[str] = []
        self._waiting: list[bytes] = []

    def feed(self, chunk: bytes) -> bytes:
        if self._reads_late:
            if len(chunk) <= _SHORT and chunk.endswith(b"}\n\n") and not self._sse.held:
                passed = self._unread(chunk)
                if passed is not None:
                    self._waiting.append(passed)
                    return passed
            if self._waiting:
                self._read_waiting()
        pieces = self._events.feed(chunk)
        if len(pieces) == 1 and pieces[0][1]:
            passed = self._pass(pieces[0][0])  # one event a chunk: what most servers send
        else:
            passed = b"".join([self._take(piece, whole) for piece, whole in pieces])
        return passed if self._holds else chunk

    def close(self) -> bytes:
        if self._waiting:
            self._read_waiting()
        piece, whole = self._events.close()
        passed = self._take(piece, whole) if piece else b""
        return passed if self._holds else b""

    def cut(self, usage: Usage, *, model: str, request_id: str) -> bytes:
        if self.finished:
            return b""
        return self._events.end_of_pieces() + self._end(usage, model, request_id)

    def take_delivered(self) -> list[str]:
        if self._waiting:
            self._read_waiting()
        delivered, self._delivered = self._delivered, []
        return delivered

    def _read_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        for chunk in waiting:
            for event, _ in self._events.feed(chunk):
                self._pass(event)

    def _unread(self, chunk: bytes) -> bytes | None:
        """What the client gets of a chunk, whole events, that can be read later: none of them tells of usage or of
        the stream's end. None where it has to be read at once."""
        return None

    def _take(self, piece: bytes, whole: bool) -> bytes:
        if whole:
            return self._pass(piece)
        self._delivered.append(piece.decode("utf-8", "replace"))  # too large to read, not to be paid
        return piece

    @abstractmethod
    def _pass(self, event: bytes) -> bytes:
        """Take what an event says; what the client gets of it."""

    @abstractmethod
    def _end(self, usage: Usage, model: str, request_id: str) -> bytes:
        """The events that end the stream here."""


def object_in(data: bytes) -> dict[str, Any] | None:
    """The JSON object that an event's data is; None where it is none."""
    try:
        return _object.decode(data)
    except UNREADABLE:
        return None


def text_or_none(value: object) -> str | None:
    """`value` where it is a string that says something."""
    return value if isinstance(value, str) and value else None


def count_or_none(value: object) -> int | None:
    """`value` where it is a count of tokens that can be believed."""
    return value if type(value) is int and 0 <= value <= LARGEST_COUNT else None


def counts_in(value: object) -> dict[str, int]:
    """Of an object's members, the counts of tokens that can be believed (`count_or_none`)."""
    if not isinstance(value, dict):
        return {}
    return {
        name: count for name, count in value.items() if type(count) is int and 0 <= count <= LARGEST_COUNT
    }
