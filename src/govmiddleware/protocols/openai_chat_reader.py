"""Readers of chat completion answers: usage, the model, what was delivered, in JSON and in streams."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from typing import Any

import msgspec

from govmiddleware.core.usage import Usage
from govmiddleware.protocols.openai_chat_ending import Ending
from govmiddleware.protocols.openai_usage import says_only_usage, usage_of
from govmiddleware.protocols.sse import EventSplitter, data_of

LARGEST_ANSWER = 32 * 1024 * 1024
"""Bytes of an unstreamed answer that are kept to find its usage at the end."""

_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_HEAD = ("model", "usage", "x_groq")
_SPOKEN = ("content", "reasoning_content", "reasoning", "refusal")
_object = msgspec.json.Decoder(dict[str, Any])
_members = msgspec.json.Decoder(dict[str, msgspec.Raw])


class JsonReader:
    """Reads an unstreamed answer. Every chunk passes at once; a copy is read when the body has ended."""

    def __init__(self) -> None:
        self.usage: Usage | None = None
        self.model: str | None = None
        self._chunks: list[bytes] = []
        self._size = 0
        self._finished = False
        self._delivered: list[str] = []

    def feed(self, chunk: bytes) -> bytes:
        self._size += len(chunk)
        if self._size <= LARGEST_ANSWER:
            self._chunks.append(chunk)
        else:
            self._chunks.clear()
        return chunk

    def close(self) -> bytes:
        raw = b"".join(self._chunks)
        self._chunks.clear()
        try:
            answer = _members.decode(raw)
            self._finished = True
            head: dict[str, Any] = {
                name: msgspec.json.decode(answer[name]) for name in _HEAD if name in answer
            }
            self.model = _text(head.get("model"))
            self.usage = usage_of(head)
            if self.usage is None and "choices" in answer:
                collect_delivered(msgspec.json.decode(answer["choices"]), "message", self._delivered)
        except _UNREADABLE:
            pass  # cut, or not JSON: nothing is known of it
        return b""

    def cut(self, usage: Usage, *, model: str, request_id: str) -> bytes:
        return b""

    @property
    def finished(self) -> bool:
        return self._finished

    def take_delivered(self) -> list[str]:
        delivered, self._delivered = self._delivered, []
        return delivered


class StreamReader:
    """Reads a stream of chunks as they pass.

    Every chunk of bytes passes as it came; with `strip_usage` or `may_be_cut`, an incomplete event is held
    back. With `strip_usage` the client gets what the provider would have sent without `include_usage`.
    """

    def __init__(self, *, strip_usage: bool, may_be_cut: bool = False) -> None:
        self.usage: Usage | None = None
        self.model: str | None = None
        self._events = EventSplitter()
        self._strip = strip_usage
        self._holds = strip_usage or may_be_cut
        self._ending = Ending(with_usage=not strip_usage) if may_be_cut else None
        self._finished = False
        self._delivered: list[str] = []

    def feed(self, chunk: bytes) -> bytes:
        passed = b"".join([self._pass(piece, whole) for piece, whole in self._events.feed(chunk)])
        return passed if self._holds else chunk

    def close(self) -> bytes:
        piece, whole = self._events.close()
        passed = self._pass(piece, whole) if piece else b""
        return passed if self._holds else b""

    def cut(self, usage: Usage, *, model: str, request_id: str) -> bytes:
        if self._ending is None or self._finished:
            return b""
        return self._events.end_of_pieces() + self._ending.write(usage, model, request_id)

    @property
    def finished(self) -> bool:
        return self._finished

    def take_delivered(self) -> list[str]:
        delivered, self._delivered = self._delivered, []
        return delivered

    def _pass(self, piece: bytes, whole: bool) -> bytes:
        """What the client gets of a piece, which is read on the way."""
        if not whole:
            self._delivered.append(piece.decode("utf-8", "replace"))  # too large to read, not to be paid
            return piece
        chunk = self._read(piece)
        if chunk is not None and self._ending is not None:
            self._ending.note(chunk)
        if chunk is None or not self._strip or "usage" not in chunk:
            return piece
        if chunk["usage"] is None:
            return without_null_usage(piece)
        return b"" if says_only_usage(chunk) else piece

    def _read(self, event: bytes) -> dict[str, Any] | None:
        """Take from an event what it says; its object, if it is one."""
        data = data_of(event)
        if data is None:
            return None
        if data.startswith(b"[DONE]"):
            self._finished = True
            return None
        try:
            chunk = _object.decode(data)
        except _UNREADABLE:
            return None
        if self.model is None:
            self.model = _text(chunk.get("model"))
        # The last report counts: some servers send one with every chunk, cumulative.
        self.usage = usage_of(chunk) or self.usage
        collect_delivered(chunk.get("choices"), "delta", self._delivered)
        return chunk


_NULL_USAGE = re.compile(rb'"usage"[ \t]*:[ \t]*null')
_COMMA = re.compile(rb"[ \t]*,[ \t]*")
_MOST_PLACES = 16
"""Where more members look like the one to take out, the event stays as it is: each takes a parse."""


def without_null_usage(event: bytes) -> bytes:
    """`event`, which has a `"usage": null` at the top level of its data, without it; the rest byte for byte.

    In valid JSON, `"usage"` before a colon is a key; which one is at the top level shows in what remains
    without it. Events whose data spans lines stay as they are.
    """
    places = list(islice(_null_usages(event), _MOST_PLACES))
    if len(places) == 1 and b"\\" not in event:  # no key is escaped: the only one is the one
        start, end = places[0]
        return event[:start] + event[end:]
    for start, end in reversed(places):
        shorter = event[:start] + event[end:]
        try:
            if "usage" not in _members.decode(data_of(shorter) or b""):
                return shorter
        except _UNREADABLE:
            continue
    return event


def _null_usages(event: bytes) -> Iterator[tuple[int, int]]:
    """Where the members are, each with the comma before it, or else the one behind it."""
    place = event.find(b'"usage"')
    while place >= 0:
        if member := _NULL_USAGE.match(event, place):
            before = event[:place].rstrip(b" \t")
            if before.endswith(b","):
                yield len(before) - 1, member.end()
            elif before.endswith(b"{"):
                comma = _COMMA.match(event, member.end())
                yield place, comma.end() if comma else member.end()
        place = event.find(b'"usage"', place + 1)


def collect_delivered(choices: object, part: str, into: list[str]) -> None:
    """The texts of every choice's `part` (`delta` or `message`) that a model generated."""
    for choice in choices if isinstance(choices, list) else ():
        spoken = choice.get(part) if isinstance(choice, dict) else None
        if not isinstance(spoken, dict):
            continue
        for name in _SPOKEN:
            _collect_text(spoken.get(name), into)
            if name == "reasoning_content" and spoken.get(name):
                break
        calls = spoken.get("tool_calls")
        functions = (
            [call.get("function") for call in calls if isinstance(call, dict)]
            if isinstance(calls, list)
            else []
        )
        for function in [*functions, spoken.get("function_call")]:
            if isinstance(function, dict):
                _collect_text(function.get("name"), into)
                _collect_text(function.get("arguments"), into)


def _collect_text(value: object, into: list[str]) -> None:
    """Strings, and the `text` and `thinking` of parts (Mistral's content)."""
    if isinstance(value, str):
        if value:
            into.append(value)
    elif isinstance(value, list):
        for part in value:
            _collect_text(part, into)
    elif isinstance(value, dict):
        _collect_text(value.get("text"), into)
        _collect_text(value.get("thinking"), into)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
